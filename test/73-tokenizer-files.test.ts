import { copyFileSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { Tokenizer, UsmLiteError } from "../lib/operations.js";
import { ByteLevelTokenizer } from "../lib/text/byte_level_tokenizer.js";
import { hypothesisOf, textOf } from "../lib/decode/hypothesis.js";
import { loadTokenizer } from "../lib/text/load_tokenizer.js";
import { loadSentencePiece } from "../lib/text/sentencepiece_model.js";
import { randomValues } from "./gradient.js";
import { temporaryFolder } from "./tiny_model.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text");
const recorded = JSON.parse(readFileSync(join(fixtures, "recorded.json"), "utf8")) as Record<string, [string, number[], string][]> & {
  bpe_size: number;
  unigram_size: number;
};
const folder = temporaryFolder("tokenizers");
test.after.always(folder.clean);
let folders = 0;

/** A folder with these files: text, JSON, or a fixture to copy. */
function folderWith(files: Record<string, unknown>): string {
  const path = join(folder.path, String(folders++));
  mkdirSync(path);
  for (const [name, content] of Object.entries(files)) {
    if (typeof content === "string" && content.startsWith("fixture:")) copyFileSync(join(fixtures, content.slice(8)), join(path, name));
    else writeFileSync(join(path, name), typeof content === "string" || content instanceof Uint8Array ? content : JSON.stringify(content));
  }
  return path;
}

const json = (fixture: string): Record<string, never> => JSON.parse(readFileSync(join(fixtures, fixture), "utf8")) as Record<string, never>;

test("byte-pair encoding over words agrees with Hugging Face tokenizers", (t) => {
  const tokenizer = loadTokenizer(folderWith({ "tokenizer.json": "fixture:tokenizer_metaspace.json" }), 60) as Tokenizer;
  t.is(tokenizer.size, 61, "the blank comes after the pieces");
  t.true(tokenizer.isSpecial(60));
  for (const [text, ids, decoded] of recorded["metaspace"] as [string, number[], string][]) {
    t.deepEqual(tokenizer.encode(text), ids, text);
    t.is(tokenizer.decode([60, ...ids, 60]), decoded);
  }
});

test("byte-level encoding agrees with Hugging Face tokenizers, from one file and from three", (t) => {
  const { model, added_tokens } = json("tokenizer_byte_level.json") as unknown as {
    model: { vocab: Record<string, number>; merges: [string, string][] };
    added_tokens: { id: number; content: string }[];
  };
  const three = folderWith({
    "vocab.json": model.vocab,
    "merges.txt": `#version: 0.2\n${model.merges.map((pair) => pair.join(" ")).join("\n")}\n`,
    "added_tokens.json": Object.fromEntries(added_tokens.map(({ id, content }) => [content, id])),
  });
  for (const path of [folderWith({ "tokenizer.json": "fixture:tokenizer_byte_level.json" }), three]) {
    const tokenizer = ByteLevelTokenizer.load(path);
    t.is(tokenizer.size, 303);
    for (const [text, ids, decoded] of recorded["bytelevel"] as [string, number[], string][]) {
      t.deepEqual(tokenizer.encode(text), ids, text);
      t.is(tokenizer.decode(ids), decoded);
    }
    const special = ["<|endoftext|>", "<|en|>", "<|0.00|>"].map((piece) => tokenizer.idOf(piece) as number);
    t.deepEqual(special, [300, 301, 302]);
    t.true(special.every((id) => tokenizer.isSpecial(id)));
    t.is(tokenizer.decode([301, ...tokenizer.encode("sea"), 300]), "sea");
    t.is(tokenizer.decode([162]), "\ufffd", "part of a character");
  }
});

/** A tokenizer of the letters a to d and of random merges of them, each with its rank. */
function randomMerges(seed: number): { tokenizer: Tokenizer; merges: Map<string, number> } {
  const pieces = [..."abcd"];
  const merges = new Map<string, number>();
  const noise = randomValues(120, seed).map((value) => (value + 1) / 2);
  for (let trial = 0; trial < 60; trial++) {
    const [left, right] = [0, 1].map((side) => pieces[Math.floor((noise[2 * trial + side] as number) * pieces.length)] as string);
    const pair = `${left} ${right}`;
    if (!merges.has(pair)) merges.set(pair, merges.size);
    const whole = pair.replace(" ", "");
    if (!pieces.includes(whole)) pieces.push(whole);
  }
  const model = { type: "BPE", vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])), merges: [...merges.keys()] };
  return { tokenizer: loadTokenizer(folderWith({ "tokenizer.json": { model } }), pieces.length) as Tokenizer, merges };
}

test("merges are made by rank, then from the left", (t) => {
  for (let seed = 1; seed <= 20; seed++) {
    const { tokenizer, merges } = randomMerges(seed);
    const text = Array.from(randomValues(1 + seed * 5, 100 + seed), (value) => "abcd"[Math.floor((value + 1) * 2)]).join("");
    const parts = [...text];
    for (;;) {
      const ranks = parts.slice(1).map((right, at) => merges.get(`${parts[at]} ${right}`) ?? Infinity);
      const least = Math.min(...ranks);
      if (least === Infinity) break;
      const at = ranks.indexOf(least);
      parts.splice(at, 2, parts.slice(at, at + 2).join(""));
    }
    t.deepEqual(
      tokenizer.encode(text).map((id) => tokenizer.piece(id)),
      parts,
      `seed ${seed}`,
    );
  }
});

test("a word may be as long as a book", (t) => {
  const { tokenizer } = randomMerges(1);
  const text = "abbacad".repeat(15_000);
  t.is(tokenizer.decode(tokenizer.encode(text)), text);
});

for (const kind of ["bpe", "unigram"] as const) {
  test(`SentencePiece ${kind} models give the ids of the library`, (t) => {
    const size = recorded[`${kind}_size`];
    const tokenizer = loadSentencePiece(join(fixtures, `sentencepiece_${kind}.model`), size);
    t.is(tokenizer.size, size + 1);
    for (const [text, ids, decoded] of recorded[kind] as [string, number[], string][]) {
      t.deepEqual(tokenizer.encode(text), ids, text);
      if (!decoded.includes("⁇")) t.is(tokenizer.decode(ids), decoded);
    }
  });
}

test("vocab.json gives characters, with a piece for the space between words", (t) => {
  const vocabulary = { "<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, A: 5, B: 6, "'": 7 };
  const path = folderWith({
    "vocab.json": vocabulary,
    "added_tokens.json": { "<x>": 8 },
    "tokenizer_config.json": { do_lower_case: true },
  });
  const tokenizer = loadTokenizer(path, 0) as Tokenizer;
  t.deepEqual(tokenizer.encode("ab a'?"), [5, 6, 4, 5, 7, 3]);
  t.is(tokenizer.decode([0, 5, 6, 0, 4, 4, 5, 3, 2]), "ab  a", "small letters, as they were given");
  t.is(tokenizer.blankId, 0);
  t.is(tokenizer.size, 9);
  const other = {
    "vocab.json": { "[PAD]": 2, " ": 0, a: 1 },
    "tokenizer_config.json": { pad_token: { content: "[PAD]" }, word_delimiter_token: " " },
  };
  t.deepEqual((loadTokenizer(folderWith(other), 2) as Tokenizer).encode("a a"), [1, 0, 1]);
});

test("vocab.json may have pieces of several characters, and tokens that only tokenizer_config.json names", (t) => {
  const files = {
    "vocab.json": { "<unk>": 0, "|": 1, a: 2, b: 3, ab: 4, "😀": 5 },
    "tokenizer_config.json": { pad_token: "[PAD]", added_tokens_decoder: { 6: { content: "[PAD]" }, 7: { content: "<s>" }, 2: "a" } },
  };
  const path = folderWith(files);
  const tokenizer = loadTokenizer(path, 6) as Tokenizer;
  t.is(tokenizer.size, 8);
  t.deepEqual(tokenizer.encode("ba ab😀c"), [3, 2, 1, 4, 5, 0], "the longest piece where one stands");
  t.is(tokenizer.decode([6, 4, 1, 5, 7]), "ab 😀");
  t.is(loadTokenizer(path, 6, 7)?.size, 7, "what the network has no output for is no token");
});

test("pieces of bytes and spaces within pieces become text", (t) => {
  const vocab = Object.fromEntries(["▁a", "<0xE6>", "<0x97>", "<0xA5>", "b▁c", "▁", "<unk>"].map((piece, id) => [piece, id]));
  const model = { type: "BPE", vocab, merges: [], unk_token: "<unk>" };
  const tokenizer = loadTokenizer(folderWith({ "tokenizer.json": { model } }), 7) as Tokenizer;
  for (const [ids, text] of [
    [[0, 1, 2, 3, 4], "a日b c"],
    [[1, 2, 6, 3, 0], "日 a"],
    [[0, 1, 2, 0], "a\ufffd\ufffd a"],
  ] as const) {
    t.is(tokenizer.decode(ids), text);
    t.is(textOf(ids, tokenizer), text);
  }
  const tokens = [0, 1, 2, 3, 4].map((id, frame) => ({ id, firstFrame: frame, endFrame: frame + 1, confidence: 1 }));
  const { words } = hypothesisOf(tokens, 0, tokenizer, { secondsPerFrame: 1 });
  t.deepEqual(
    words.map(({ word, start, end }) => [word, start, end]),
    [
      ["a日b", 0, 5],
      ["c", 4, 5],
    ],
  );
});

test("what counts as white space and as the first word is what the library says", (t) => {
  const pieces = ["▁", "a", "1", "\ufeff", "<unk>"];
  const model = { type: "BPE", vocab: Object.fromEntries(pieces.map((piece, id) => [piece, id])), merges: [], unk_token: "<unk>" };
  const encode = (normalizer: object | null, pre_tokenizer: object, text: string): string[] => {
    const tokenizer = loadTokenizer(folderWith({ "tokenizer.json": { model, normalizer, pre_tokenizer } }), 4) as Tokenizer;
    return tokenizer.encode(text).map((id) => tokenizer.piece(id));
  };
  const first = { type: "Metaspace", replacement: "▁", prepend_scheme: "first", split: true };
  const after = (...pretokenizers: object[]) => ({ type: "Sequence", pretokenizers: [...pretokenizers, first] });
  const strip = { type: "Strip", strip_left: true, strip_right: true };
  t.deepEqual(encode(strip, { type: "WhitespaceSplit" }, "\u0085a\ufeff\u0085 "), ["a", "\ufeff"]);
  t.deepEqual(encode({ ...strip, strip_left: false }, { ...first, prepend_scheme: "never" }, " a "), ["▁", "a"]);
  t.deepEqual(encode(null, first, "a a"), ["▁", "a", "▁", "a"]);
  t.deepEqual(encode(null, after({ type: "WhitespaceSplit" }), "a a"), ["▁", "a", "a"]);
  t.deepEqual(encode(null, after({ type: "WhitespaceSplit" }), " a a"), ["a", "a"], "the text does not begin with it");
  const digits = { type: "Split", pattern: { Regex: "1" }, behavior: "Removed" };
  t.deepEqual(encode(null, after(digits), "1a1a"), ["a", "a"]);
  t.deepEqual(encode(null, after({ ...digits, behavior: "Isolated" }), "1a"), ["▁", "1", "a"]);
});

test("byte-level tokenizers keep a byte order mark, and begin texts with a space where they are told to", (t) => {
  const bytes = json("tokenizer_byte_level.json") as Record<string, unknown>;
  const load = (change: object) =>
    ByteLevelTokenizer.load(folderWith({ "tokenizer.json": { ...bytes, pre_tokenizer: { type: "ByteLevel", ...change } } }));
  const plain = load({ add_prefix_space: false });
  t.is(plain.decode(plain.encode("\ufeffsea\u0085shells")), "\ufeffsea\u0085shells");
  t.deepEqual(load({ add_prefix_space: true }).encode("sea"), plain.encode(" sea"));
  t.deepEqual(load({}).encode(" sea"), plain.encode(" sea"));
  t.throws(() => load({ use_regex: false }), { code: "BAD_TOKENIZER", message: /use_regex/ });
});

test("a folder without tokenizer has none; tokenizer.json comes first", (t) => {
  t.is(loadTokenizer(folderWith({}), 0), undefined);
  const both = folderWith({ "tokenizer.json": "fixture:tokenizer_metaspace.json", "tokenizer.model": "fixture:sentencepiece_bpe.model" });
  t.is(loadTokenizer(both, 1)?.size, 60);
  t.is(loadTokenizer(folderWith({ "spm.model": "fixture:sentencepiece_bpe.model" }), 0)?.size, recorded.bpe_size);
});

test("tokenizer files that cannot be honoured are coded errors that name file and key", (t) => {
  const metaspace = json("tokenizer_metaspace.json") as Record<string, unknown>;
  const model = metaspace["model"] as Record<string, unknown>;
  const refuse = (files: Record<string, unknown>, message: RegExp, blankId = 0): void => {
    const path = folderWith(files);
    const error = t.throws(() => loadTokenizer(path, blankId), { instanceOf: UsmLiteError, code: "BAD_TOKENIZER", message });
    t.true(error?.message.includes(path));
  };
  const refuseJson = (change: Record<string, unknown>, message: RegExp): void =>
    refuse({ "tokenizer.json": { ...metaspace, ...change } }, message);
  refuseJson({ model: { ...model, type: "WordPiece" } }, /model of type "WordPiece"; supported are "Unigram" and "BPE"/);
  refuseJson({ model: { ...model, merges: [["x", "q", "z"]] } }, /entry 0 of "model.merges" must be two pieces/);
  refuseJson({ model: { ...model, merges: ["s 日"] } }, /names no piece/);
  refuseJson({ model: { ...model, vocab: { a: 0, b: 0 } } }, /gives "b" of "model.vocab" the id 0; ids must be 0..1/);
  refuseJson({ model: { ...model, vocab: { a: 1 } } }, /the id 1; ids must be 0\.\.0/);
  refuseJson({ model: { ...model, unk_token: "<none>" } }, /unk_token" "<none>", which is no piece/);
  refuseJson({ model: { ...model, end_of_word_suffix: "</w>" } }, /end_of_word_suffix/);
  refuseJson({ normalizer: { type: "BertNormalizer" } }, /normalizer of type "BertNormalizer"/);
  refuseJson({ normalizer: { type: "Replace", pattern: { Regex: "(" }, content: "" } }, /no regular expression/);
  refuseJson({ pre_tokenizer: { type: "ByteLevel" } }, /pre_tokenizer of type "ByteLevel"/);
  refuseJson({ pre_tokenizer: { type: "Metaspace", replacement: "_" } }, /replacement "_"/);
  refuse({ "tokenizer.json": metaspace }, /blank, 61, must be an id of the tokenizer, which has 60, or the next one/, 61);
  refuse({ "vocab.json": { en: { A: 0 } } }, /one vocabulary for each language/);
  refuse({ "vocab.json": { a: 0 }, "tokenizer_config.json": { replace_word_delimiter_char: "" } }, /replace_word_delimiter_char" is ""/);
  refuse({ "tokenizer.model": "" }, /holds no pieces/);
  refuse({ "tokenizer.model": "not a model" }, /tokenizer\.model: /);
  const longest = "a".repeat(1000);
  const unigram = (piece: string) => ({ model: { vocab: ["<pad>", "</s>", "<unk>", piece].map((text) => [text, -1]) } });
  t.is((loadTokenizer(folderWith({ "tokenizer.json": unigram(longest) }), 0) as Tokenizer).idOf(longest), 3);
  refuse({ "tokenizer.json": unigram(`${longest}a`) }, /piece of 1001 characters as entry 3 of "model.vocab"; 1000 is the most/);
  // Field 1, a piece of n bytes: its field 1, text of n - 3 bytes.
  const piece = (length: number): Uint8Array => {
    const lengthBytes = (n: number) => [(n & 127) | 128, n >> 7];
    return Buffer.concat([Uint8Array.of(10, ...lengthBytes(length + 3), 10, ...lengthBytes(length)), Buffer.alloc(length, "a")]);
  };
  refuse({ "tokenizer.model": piece(1000) }, /no piece for what is unknown/);
  refuse({ "tokenizer.model": piece(1001) }, /piece 0 has 1001 characters; 1000 is the most/);
  t.throws(() => ByteLevelTokenizer.load(folderWith({ "tokenizer.json": metaspace })), {
    code: "BAD_TOKENIZER",
    message: /pre_tokenizer of type "Metaspace"/,
  });
  t.throws(() => ByteLevelTokenizer.load(folderWith({})), { code: "FILE_NOT_FOUND", message: /vocab\.json/ });
  t.throws(() => loadSentencePiece(join(folder.path, "none.model"), 0), { code: "FILE_NOT_FOUND" });
});

test("a regular expression that takes for ever is stopped, and told", (t) => {
  const metaspace = json("tokenizer_metaspace.json");
  const load = (change: object): Tokenizer => loadTokenizer(folderWith({ "tokenizer.json": { ...metaspace, ...change } }), 60) as Tokenizer;
  const plain = load({});
  const text = "the  cat   sat on  the mat";
  const squeezed = load({ normalizer: { type: "Replace", pattern: { Regex: " {2,}(?=\\S)" }, content: " " } });
  t.deepEqual(squeezed.encode(text), plain.encode(text.replace(/ {2,}/g, " ")), "with a lookahead, and at once");
  const slow = load({ normalizer: { type: "Replace", pattern: { Regex: "(a+)+!" }, content: "" } });
  t.deepEqual(slow.encode("the cat"), plain.encode("the cat"), "what it costs cannot be seen before");
  t.throws(() => slow.encode("a".repeat(50)), {
    instanceOf: UsmLiteError,
    code: "BAD_TOKENIZER",
    message:
      /tokenizer\.json has the pattern "\(a\+\)\+!" in "normalizer\.pattern", which takes too long on a text of 50 characters: repetitions/,
  });
  t.deepEqual(slow.encode("a!"), plain.encode(""), "and nothing else is broken");
});

test("mutated SentencePiece models load or are refused, never anything else", (t) => {
  const original = readFileSync(join(fixtures, "sentencepiece_unigram.model"));
  const path = join(folderWith({}), "tokenizer.model");
  const noise = randomValues(900, 8).map((value) => (value + 1) / 2);
  for (let trial = 0; trial < 300; trial++) {
    const bytes = Buffer.from(original);
    bytes[Math.floor((noise[trial * 3] as number) * bytes.length)] = Math.floor((noise[trial * 3 + 1] as number) * 256);
    writeFileSync(path, bytes.subarray(0, trial % 5 === 0 ? Math.floor((noise[trial * 3 + 2] as number) * bytes.length) : bytes.length));
    try {
      loadSentencePiece(path, 0).encode("sea shells");
    } catch (error) {
      if (!(error instanceof UsmLiteError) || error.code !== "BAD_TOKENIZER") t.fail(`trial ${trial}: ${String(error)}`);
    }
  }
  t.pass();
});
