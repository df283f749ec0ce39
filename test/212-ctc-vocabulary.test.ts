import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { textOf } from "../lib/decode/hypothesis.js";
import { UsmLiteError } from "../lib/operations.js";
import { loadCtcVocabulary } from "../lib/text/ctc_vocabulary.js";
import type { Tokenizer } from "../lib/text/tokenizer.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("ctc-vocabulary");
test.after.always(folder.clean);
let folders = 0;

/** The tokenizer of a folder with these files. */
function load(pieces: readonly string[], files: Record<string, object>): Tokenizer {
  const path = join(folder.path, String(folders++));
  mkdirSync(path);
  const all = { "vocab.json": Object.fromEntries(pieces.map((piece, id) => [piece, id])), ...files };
  for (const [name, content] of Object.entries(all)) writeFileSync(join(path, name), JSON.stringify(content));
  return loadCtcVocabulary(path, 0, pieces.length);
}

const token = (content: string) => ({ content, lstrip: false, rstrip: false, normalized: false, single_word: false });
const added = { added_tokens_decoder: { 5: { ...token("[N]"), special: true } } };

// Recorded from Wav2Vec2CTCTokenizer of transformers 5.18, decode(ids, group_tokens=False, skip_special_tokens=True) of ids
// that spell a[N][M]|[S][P]<unk><pad>ba.
const pieces = ["<pad>", "<unk>", "|", "a", "b", "[N]", "[M]", "[S]", "[P]"];
const ids = [3, 5, 6, 2, 7, 8, 1, 0, 4, 3];
const special: [says: string, config: object, map: object | undefined, text: string][] = [
  ["nothing", {}, undefined, "a[N][M] [S][P]ba"],
  ["mask_token", { mask_token: "[M]" }, undefined, "a[N] [S][P]ba"],
  ["a token of another name", { noise_token: "[N]" }, undefined, "a[M] [S][P]ba"],
  ["no token", { mask_token: null, add_noise_token: true }, undefined, "a[N][M] [S][P]ba"],
  ["additional_special_tokens", { additional_special_tokens: ["[N]", "[M]"] }, undefined, "a [S][P]ba"],
  ["objects", { additional_special_tokens: [{ __type: "AddedToken", ...token("[M]") }] }, undefined, "a[N] [S][P]ba"],
  ["the space between words", { additional_special_tokens: ["|", "[N]"] }, undefined, "a[M] [S][P]ba"],
  ["extra_special_tokens", { extra_special_tokens: { noise_token: "[N]" } }, undefined, "a[M] [S][P]ba"],
  ["both", { extra_special_tokens: ["[N]"], additional_special_tokens: ["[M]"] }, undefined, "a[M] [S][P]ba"],
  ["both, one empty", { extra_special_tokens: [], additional_special_tokens: ["[M]"] }, undefined, "a[N] [S][P]ba"],
  ["tokens of the map", {}, { mask_token: token("[M]"), sep_token: "[S]" }, "a[N] [P]ba"],
  ["additional tokens of the map", {}, { additional_special_tokens: ["[N]", "[M]"] }, "a [S][P]ba"],
  ["extra tokens of both", { extra_special_tokens: ["[M]"] }, { extra_special_tokens: ["[N]", token("[S]")] }, "a [P]ba"],
  ["what the map says otherwise", { unk_token: "[M]" }, { unk_token: "[N]" }, "a[M] [S][P]<unk>ba"],
  ["a map beside added tokens", { unk_token: "[M]", ...added }, { unk_token: "[N]", mask_token: "[S]" }, "a[N] [S][P]<unk>ba"],
];

for (const [says, config, map, text] of special) {
  test(`special tokens are left out of text: ${says}`, (t) => {
    const tokenizer = load(pieces, { "tokenizer_config.json": config, ...(map && { "special_tokens_map.json": map }) });
    t.is(tokenizer.decode(ids), text);
    t.is(textOf(ids, tokenizer), text);
  });
}

test("a map of special tokens that cannot be read is a coded error", (t) => {
  t.throws(() => load(pieces, { "special_tokens_map.json": [] }), {
    instanceOf: UsmLiteError,
    code: "BAD_TOKENIZER",
    message: /special_tokens_map\.json/,
  });
  t.throws(() => load(pieces, { "special_tokens_map.json": { unk_token: 1 } }), {
    code: "BAD_TOKENIZER",
    message: /whose "unk_token" is no text/,
  });
});
