import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { UsmLiteError } from "../lib/operations.js";
import { CharacterMap } from "../lib/text/character_map.js";
import { loadTokenizer } from "../lib/text/load_tokenizer.js";
import { temporaryFolder } from "./tiny_model.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text");
const folder = temporaryFolder("character-maps");
test.after.always(folder.clean);

interface Rules {
  readonly tokenizer: { readonly normalizer: { readonly type: string; readonly precompiled_charsmap: string } };
  /** Recorded from tokenizers 0.23.2 (normalized text and ids) and sentencepiece 0.2.2 (ids of the same model). */
  readonly rows: readonly [text: string, normalized: string, ids: number[], sentencePiece: number[]][];
}
// Learnt with rules of its own: capitals become small letters, one with an accent of its own too, a ligature two letters,
// a zero-width space and a carriage return a space, a zero-width joiner nothing.
const { tokenizer, rows } = JSON.parse(readFileSync(join(fixtures, "tokenizer_rules.json"), "utf8")) as Rules;
const map = Buffer.from(tokenizer.normalizer.precompiled_charsmap, "base64");

const load = (json: object) => {
  const path = folder.empty();
  writeFileSync(join(path, "tokenizer.json"), JSON.stringify(json));
  return loadTokenizer(path, 3);
};

test("a precompiled normalizer replaces what its map says, grapheme by grapheme", (t) => {
  const loaded = load(tokenizer);
  const characters = new CharacterMap(map);
  for (const [text, normalized, ids] of rows) {
    t.is(characters.replaceGraphemes(text), normalized, JSON.stringify(text));
    t.deepEqual(loaded?.encode(text), ids, JSON.stringify(text));
  }
});

test("a SentencePiece model replaces what its map says, the longest first, whatever its rules are called", (t) => {
  const path = folder.empty();
  copyFileSync(join(fixtures, "sentencepiece_rules.model"), join(path, "tokenizer.model"));
  const loaded = loadTokenizer(path, 3);
  // A line end, which no rule speaks of, ends a word here.
  for (const [text, , , ids] of rows.filter(([text]) => !text.includes("\n"))) {
    t.deepEqual(loaded?.encode(text), ids, JSON.stringify(text));
  }
});

test("maps that cannot be decoded are coded errors", (t) => {
  const refuse = (precompiled_charsmap: unknown, message: RegExp): void => {
    const json = { ...tokenizer, normalizer: { type: "Precompiled", precompiled_charsmap } };
    t.throws(() => load(json), { instanceOf: UsmLiteError, code: "BAD_TOKENIZER", message });
  };
  const changed = (change: (bytes: Buffer) => void): string => {
    const bytes = Buffer.from(map);
    change(bytes);
    return bytes.toString("base64");
  };
  refuse(undefined, /must have a string "normalizer.precompiled_charsmap"/);
  refuse(null, /must have a string/);
  refuse("?", /is not base64/);
  refuse("", /it has 0 bytes/);
  refuse("AAAAAA==", /a trie of 0 bytes/);
  refuse(map.subarray(0, 900).toString("base64"), /a trie of 1024 bytes is said to lie in 896/);
  refuse(
    changed((bytes) => bytes.writeUInt32LE(1023)),
    /a trie of 1023 bytes/,
  );
  refuse(
    changed((bytes) => bytes.writeUInt8(0xff, bytes.length - 2)),
    /not UTF-8/,
  );
  refuse(
    changed((bytes) => bytes.writeUInt32LE(0x80000400, 4 + 4)),
    /no replacement begins at byte 1024 of 19/,
  );
  // Nodes that lead out of the trie are the ends of nothing.
  const astray = new CharacterMap(
    Buffer.from(
      changed((bytes) => bytes.fill(0x7f, 4, 1028)),
      "base64",
    ),
  );
  t.is(astray.replaceGraphemes("\x7fA"), "\x7fA");
  const model = readFileSync(join(fixtures, "sentencepiece_rules.model"));
  model.writeUInt32LE(0, model.indexOf(map));
  const path = folder.empty();
  writeFileSync(join(path, "tokenizer.model"), model);
  t.throws(() => loadTokenizer(path, 3), { code: "BAD_TOKENIZER", message: /tokenizer\.model: is no map of characters/ });
});
