import { copyFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { loadTokenizer } from "../lib/text/load_tokenizer.js";
import type { Tokenizer } from "../lib/text/tokenizer.js";
import { temporaryFolder } from "./tiny_model.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text");
const folder = temporaryFolder("byte-fallback");
test.after.always(folder.clean);

/** A unigram model of a few pieces, the bytes given, and others. */
function unigram(bytes: readonly string[], byte_fallback: boolean, others: readonly (readonly [string, number])[] = []): Tokenizer {
  const pieces = [
    ["<pad>", 0],
    ["</s>", 0],
    ["<unk>", 0],
    ["▁", -2],
    ["a", -2.5],
    ["b", -3],
    ["▁a", -2.2],
  ] as const;
  const vocab = [...pieces, ...bytes.map((byte) => [`<0x${byte}>`, -20] as const), ...others];
  const path = folder.empty();
  writeFileSync(join(path, "tokenizer.json"), JSON.stringify({ model: { type: "Unigram", unk_id: 2, vocab, byte_fallback } }));
  return loadTokenizer(path, 0) as Tokenizer;
}

// Recorded from tokenizers 0.23.2 with these pieces between Metaspace: bytes of é and 日, without byte fallback, and with a
// piece that is less probable than two unknown characters.
const recorded: [text: string, ids: number[], without: number[], withPiece: number[]][] = [
  ["ab é b", [6, 5, 3, 7, 8, 3, 5], [6, 5, 3, 2, 3, 5], [6, 5, 3, 7, 8, 3, 5]],
  ["aéa", [6, 7, 8, 4], [6, 2, 4], [6, 7, 8, 4]],
  ["日本 a", [3, 2, 6], [3, 2, 6], [3, 2, 6]],
  ["éè", [3, 2], [3, 2], [3, 10]],
  ["è é", [3, 2, 3, 7, 8], [3, 2, 3, 2], [3, 7, 9, 3, 7, 8]],
];

test("unknown characters of a unigram model become their bytes where all of a row exist", (t) => {
  const tokenizer = unigram(["C3", "A9", "E6", "97", "A5"], true);
  const without = unigram(["C3", "A9"], false);
  const withPiece = unigram(["C3", "A9", "A8"], true, [["éè", -90]]);
  for (const [text, ids, unknown, others] of recorded) {
    t.deepEqual(tokenizer.encode(text), ids, text);
    t.deepEqual(without.encode(text), unknown, text);
    t.deepEqual(withPiece.encode(text), others, text);
  }
  t.is(tokenizer.decode(tokenizer.encode("ab é日 b")), "ab é日 b");
  t.is(tokenizer.encode("é".repeat(100_000)).length, 1 + 200_000, "a row may be as long as a book");
});

test("a SentencePiece unigram model writes unknown characters as bytes", (t) => {
  const path = folder.empty();
  copyFileSync(join(fixtures, "sentencepiece_byte_unigram.model"), join(path, "tokenizer.model"));
  const tokenizer = loadTokenizer(path, 1) as Tokenizer;
  // Recorded from sentencepiece 0.2.2.
  for (const [text, ids] of [
    ["ab é b", [260, 261, 198, 172, 261, 262]],
    ["aé", [261, 263, 198, 172]],
    ["日本 a", [261, 233, 154, 168, 233, 159, 175, 261, 263]],
    ["éa日", [261, 198, 172, 263, 233, 154, 168]],
  ] as const) {
    t.deepEqual(tokenizer.encode(text), ids, text);
    t.is(tokenizer.decode(ids), text);
  }
});
