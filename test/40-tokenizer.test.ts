import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { Tokenizer, trainTokenizer, UsmLiteError } from "../lib/operations.js";
import { normalizeText } from "../lib/text/normalize.js";
import type { ScoredPiece } from "../lib/text/unigram_model.js";
import { randomValues } from "./gradient.js";

const folder = mkdtempSync(join(tmpdir(), "usm-lite-tokenizer-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));
let folders = 0;
function folderWith(json: unknown): string {
  const path = join(folder, String(folders++));
  mkdirSync(path);
  writeFileSync(join(path, "tokenizer.json"), typeof json === "string" ? json : JSON.stringify(json));
  return path;
}

const pieces: ScoredPiece[] = [
  ["<pad>", 0],
  ["</s>", 0],
  ["<unk>", 0],
  ["▁", -3],
  ["▁THE", -2],
  ["E", -3.5],
  ["T", -3.25],
  ["H", -4],
  ["▁T", -3.5],
  ["HE", -3.75],
  ["A", -4],
  ["'", -7],
  ["▁A", -4],
  ["TT", -6.5],
  ["▁HE", -7],
];

// Recorded from LasrTokenizer of transformers 5.18 with these pieces.
const recorded: [text: string, ids: number[], decoded: string][] = [
  ["THE HEAT", [4, 3, 9, 10, 6], "THE HEAT"],
  ["  THE\tATTHE ", [4, 12, 13, 9], "THE ATTHE"],
  ["A▁THE ▁▁A", [12, 4, 3, 12], "A THE  A"],
  ["TÉÉT éA", [8, 3, 6, 3, 10], "T T A"],
  ["'TTTT", [3, 11, 13, 13], "'TTTT"],
  ["HE HEHE", [3, 9, 3, 9, 9], "HE HEHE"],
  ["A\u0085T\ufeffT", [12, 8, 3, 6], "A T T"],
  ["", [], ""],
];

test("encodes and decodes as LasrTokenizer does", (t) => {
  const tokenizer = new Tokenizer(pieces);
  for (const [text, ids, decoded] of recorded) {
    t.deepEqual(tokenizer.encode(text), ids, text);
    t.is(tokenizer.decode(ids), decoded);
  }
  t.is(tokenizer.decode([0, 9, 9, 3, 1, 2, 4, 3, 3, 10, 0]), "HEHE  THE  A");
  t.is(tokenizer.blankId, 0);
  t.throws(() => tokenizer.decode([15]), { code: "INVALID_ARGUMENT", message: /ids 0\.\.14/ });
});

test("a saved tokenizer is the same when loaded", (t) => {
  const path = folderWith({});
  new Tokenizer(pieces).save(path);
  const tokenizer = Tokenizer.load(path);
  t.deepEqual(tokenizer.pieces, pieces);
  for (const [text, ids] of recorded) t.deepEqual(tokenizer.encode(text), ids);
  const config = JSON.parse(readFileSync(join(path, "tokenizer_config.json"), "utf8")) as Record<string, unknown>;
  t.is(config["tokenizer_class"], "LasrTokenizer");
});

test("added tokens may follow the pieces of the model", (t) => {
  const added_tokens = [
    { id: 0, content: "<pad>", special: true },
    { id: 15, content: "<extra>", special: true },
  ];
  const tokenizer = Tokenizer.load(folderWith({ model: { unk_id: 3, vocab: pieces }, added_tokens }));
  t.is(tokenizer.size, 16);
  t.is(tokenizer.decode([4, 15, 9]), "THEHE");
});

const sentences = [
  "she sells sea shells on the sea shore",
  "the shells she sells are sea shells, I'm sure",
  "so if she sells sea shells on the sea shore",
  "then I'm sure she sells sea shore shells",
];

test("a trained tokenizer has the size asked for, writes every word, and prefers frequent pieces", (t) => {
  for (const size of [31, 32, 40]) {
    const tokenizer = trainTokenizer(sentences, size);
    t.is(tokenizer.size, size);
    for (const text of [...sentences, "zqxjkv'", "A QUICK BROWN FOX JUMPS OVER A LAZY DOG'S TAIL"]) {
      const ids = tokenizer.encode(normalizeText(text));
      t.is(tokenizer.decode(ids), normalizeText(text));
      t.false(ids.some((id) => tokenizer.isSpecial(id)));
    }
  }
  const large = trainTokenizer(sentences, 43);
  t.is(large.encode("SHE SELLS SEA SHELLS").length, 4);
  t.deepEqual(trainTokenizer(sentences, 43).pieces, large.pieces, "the same text gives the same tokenizer");
  t.true(trainTokenizer(["A"], 64).size < 64, "little text gives fewer pieces");
  t.throws(() => trainTokenizer(sentences, 30), { code: "INVALID_ARGUMENT", message: /from 31 to 65536/ });
  t.throws(() => trainTokenizer(["123"], 40), { code: "INVALID_ARGUMENT" });
});

test("corrupt tokenizer files are coded errors that name the file", (t) => {
  const model = { type: "Unigram", unk_id: 3, vocab: pieces };
  const refuse = (json: unknown, message: RegExp): void => {
    const error = t.throws(() => Tokenizer.load(folderWith(json)), {
      instanceOf: UsmLiteError,
      code: "BAD_TOKENIZER",
      message,
    });
    t.true(error?.message.includes("tokenizer.json"));
  };
  refuse("", /not valid JSON/);
  refuse("[]", /JSON object/);
  refuse({}, /object "model"/);
  refuse({ model: { type: "WordLevel" } }, /supported are "Unigram" and "BPE"/);
  refuse({ model: { ...model, vocab: {} } }, /non-empty list/);
  refuse({ model: { ...model, vocab: [["<pad>", "0"]] } }, /entry 0 .* must be \[piece, score\]/);
  refuse({ model: { ...model, vocab: [...pieces, ["", 0]] } }, /entry 15/);
  refuse({ model: { ...model, vocab: [...pieces, ["E", 0]] } }, /twice/);
  refuse({ model: { ...model, vocab: pieces.slice(1) } }, /CTC blank/);
  refuse({ model: { ...model, unk_id: 99 } }, /unk_id/);
  refuse({ model, added_tokens: [{ id: 16, content: "<x>" }] }, /must repeat/);
  refuse({ model, added_tokens: [{ id: 15, content: "E" }] }, /must repeat/);
  refuse({ model, added_tokens: 1 }, /added_tokens/);
  refuse({ model, normalizer: { type: "Nmt" } }, /normalizer of type "Nmt"/);
  t.throws(() => Tokenizer.load(join(folder, "none")), { code: "FILE_NOT_FOUND" });
});

test("mutated tokenizer files load or are refused, never anything else", (t) => {
  const path = folderWith({});
  new Tokenizer(pieces).save(path);
  const original = readFileSync(join(path, "tokenizer.json"));
  const noise = randomValues(1200, 5).map((value) => (value + 1) / 2);
  for (let trial = 0; trial < 400; trial++) {
    const bytes = Buffer.from(original);
    bytes[Math.floor((noise[trial * 3] as number) * bytes.length)] = Math.floor((noise[trial * 3 + 1] as number) * 256);
    const end = (noise[trial * 3 + 2] as number) < 0.2 ? Math.floor((noise[trial * 3] as number) * bytes.length) : bytes.length;
    writeFileSync(join(path, "tokenizer.json"), bytes.subarray(0, end));
    try {
      Tokenizer.load(path).encode("THE HEAT");
    } catch (error) {
      if (!(error instanceof UsmLiteError) || error.code !== "BAD_TOKENIZER") t.fail(`trial ${trial}: ${String(error)}`);
    }
  }
  t.pass();
});

test("text is normalized to upper-case letters, apostrophes and single spaces", (t) => {
  t.is(normalizeText("“Don’t,” he said – naïvely."), "DON'T HE SAID NAIVELY");
  t.is(normalizeText("  debtors' prison ' 42 '' x--y\n"), "DEBTORS' PRISON X Y");
  t.is(normalizeText("...!"), "");
});
