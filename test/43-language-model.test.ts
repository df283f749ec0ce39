import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { crc32, deflateRawSync, inflateRawSync } from "node:zlib";
import test from "ava";
import {
  ctcBeamSearch,
  LanguageModelScorer,
  readLanguageModel,
  trainLanguageModel,
  trainTokenizer,
  UsmLiteError,
  writeLanguageModel,
} from "../lib/operations.js";
import { decodeLanguageModel, encodeLanguageModel } from "../lib/decode/ngram_file.js";
import { FIRST_WORD, TEXT_END, type NgramLanguageModel } from "../lib/decode/ngram_language_model.js";
import { SpellingModel } from "../lib/decode/spelling_model.js";
import { randomValues } from "./gradient.js";
import { tokenizerOf } from "./lattice.js";

const folder = mkdtempSync(join(tmpdir(), "usm-lite-ngram-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const texts = [
  "the cat sat on the mat",
  "the cat ate the rat",
  "a rat sat on a cat",
  "the dog and the cat sat",
  "a dog ate a rat on the mat",
  "on the mat sat a cat",
];
const model = trainLanguageModel(texts);

test("the spelling model is a distribution in every state, and prefers words like those it saw", (t) => {
  const spelling = new SpellingModel(["CAT", "RAT", "MAT", "DOG"]);
  for (const text of ["", "C", "CA", "CAT", "DOGCAT", "XYZ", "RATS"]) {
    let state = spelling.start;
    for (const character of text) state = spelling.next(state, spelling.symbolOf(character));
    let sum = 0;
    for (let symbol = 0; symbol <= spelling.otherSymbol; symbol++) sum += Math.exp(spelling.score(state, symbol));
    t.true(Math.abs(sum - 1) < 1e-5, `${text}: ${sum}`);
  }
  t.true(spelling.wordScore("CAT") > spelling.wordScore("DAT"));
  t.true(spelling.wordScore("DAT") > spelling.wordScore("QZX"));
  t.true(Number.isFinite(spelling.wordScore("É1")));
  t.true(Number.isFinite(new SpellingModel([]).wordScore("A")));
});

/** P(symbol | history) of Witten and Bell, counted in the words; "^" begins a word and "$" ends it. */
function wittenBell(words: readonly string[], history: string, symbol: string): number {
  const width = new Set(words.join("")).size + 2;
  const after = words.flatMap((word) => {
    const spelled = `^${word}$`;
    return [...spelled].filter((_, place) => place > 0 && spelled.slice(0, place).endsWith(history));
  });
  const shorter = history === "" ? 1 / width : wittenBell(words, history.slice(1), symbol);
  if (after.length === 0) return shorter;
  const types = new Set(after).size;
  return (after.filter((other) => other === symbol).length + types * shorter) / (after.length + types);
}

test("the tables of the spelling model are those of the formula", (t) => {
  const letters = randomValues(600, 5);
  const letterOf = (value: number): string => "ABCDE"[Math.floor(Math.abs(value) * 1000) % 5] as string;
  const words = Array.from({ length: 60 }, (_, index) =>
    Array.from(letters.subarray(10 * index, 10 * index + 1 + (index % 9)), letterOf).join(""),
  );
  const spelling = new SpellingModel(words);
  for (const text of ["", "A", "AB", "EDC", "BADE", "CABBA", "DEAEDBCA", ...words]) {
    let state = spelling.start;
    for (const character of text) state = spelling.next(state, spelling.symbolOf(character));
    for (const symbol of "ABCDE$") {
      const score = spelling.score(state, symbol === "$" ? spelling.endSymbol : spelling.symbolOf(symbol));
      const expected = Math.log(wittenBell(words, `^${text}`.slice(-4), symbol));
      t.true(Math.abs(score - expected) < 1e-5, `${symbol} after ${text}: ${score}, not ${expected}`);
    }
  }
});

/** The sum over all words, the unknown ones included, after `context`. */
function totalProbability(trained: NgramLanguageModel, context: number): number {
  let known = Math.exp(trained.predict(context, TEXT_END).score);
  let spelled = 0;
  trained.tree.words.forEach((word, index) => {
    known += Math.exp(trained.predict(context, index + FIRST_WORD).score);
    spelled += Math.exp(trained.spelling.wordScore(word));
  });
  return known + Math.exp(trained.predictUnknown(context, 0).score) * (1 - spelled);
}

test("the probabilities of all words add up to one after every context", (t) => {
  for (const order of [1, 2, 3, 4]) {
    for (const minimumCount of [1, 2]) {
      const trained = trainLanguageModel(texts, { order, minimumCount });
      const contexts = new Set([trained.start, 0]);
      for (const text of [...texts, "a cat sat on the zebra and the rat"]) {
        let context = trained.start;
        for (const word of text.toUpperCase().split(" ")) {
          const id = trained.wordId(word);
          context = (id === undefined ? trained.predictUnknown(context, -1) : trained.predict(context, id)).context;
          contexts.add(context);
        }
      }
      // Stored logarithms are rounded to 1/16: each factor is off by at most 3.2 %.
      for (const context of contexts) t.true(Math.abs(totalProbability(trained, context) - 1) < 0.06, `order ${order}`);
    }
  }
});

test("unigram probabilities are those of the formula", (t) => {
  const unigrams = trainLanguageModel(["A B", "A"], { order: 1 });
  // Counts: A 2, B 1, end 2. Discounts 1 for two, 0.5 for one: 2.5 of 5 go to the spelling model.
  const spelled = Math.exp(unigrams.spelling.wordScore("A"));
  const score = unigrams.predict(unigrams.start, unigrams.wordId("A") as number).score;
  t.true(Math.abs(score - Math.log((2 - 1) / 5 + 0.5 * spelled)) <= 1 / 32);
  t.true(Math.abs(unigrams.unknownScore - Math.log(0.5)) <= 1 / 32);
});

test("seen texts are likelier than shuffled ones, these likelier than unknown words", (t) => {
  const score = (text: string): number => model.textScore(text);
  t.true(score("THE CAT SAT ON THE MAT") > score("MAT THE ON SAT CAT THE"));
  t.true(score("THE CAT SAT") > score("THE CAT SAX"));
  t.true(score("THE CAT SAX") > score("THE CAT QXZ"));
  t.true(Number.isFinite(score("ZEBRAS")));
});

test("a language model file gives the same scores, and its bytes do not depend on the run", (t) => {
  const path = join(folder, "model.ngram");
  writeLanguageModel(path, model);
  const read = readLanguageModel(path);
  t.deepEqual(read.tree, model.tree);
  for (const text of ["THE CAT SAT", "A ZEBRA ATE", ""]) t.is(read.textScore(text), model.textScore(text));
  t.deepEqual(encodeLanguageModel(trainLanguageModel(texts)), encodeLanguageModel(model));
  t.throws(() => readLanguageModel(join(folder, "none")), { code: "FILE_NOT_FOUND" });
});

test("misuse and damaged files are coded errors", (t) => {
  t.throws(() => trainLanguageModel([]), { code: "INVALID_ARGUMENT" });
  t.throws(() => trainLanguageModel(texts, { order: 7 }), { code: "INVALID_ARGUMENT", message: /1 to 6/ });
  const refuse = (bytes: Uint8Array, message: RegExp): void => {
    t.throws(() => decodeLanguageModel(bytes, "x.ngram"), {
      instanceOf: UsmLiteError,
      code: "BAD_LANGUAGE_MODEL",
      message,
    });
  };
  const good = Buffer.from(encodeLanguageModel(model));
  refuse(new Uint8Array(0), /x\.ngram is not a language model/);
  refuse(good.subarray(0, good.length - 3), /decompressed|damaged/);
  const bomb = Buffer.concat([good.subarray(0, 16), deflateRawSync(Buffer.alloc(1e7))]);
  refuse(bomb, /decompressed/);
  const huge = Buffer.from(good);
  huge.writeUInt32LE(2 ** 32 - 1, 8);
  refuse(huge, /limit of 1 GiB/);
});

test("mutated language models are read or refused, never anything else", (t) => {
  const good = Buffer.from(encodeLanguageModel(model));
  const payload = inflateRawSync(good.subarray(16));
  const noise = randomValues(3600, 11).map((value) => (value + 1) / 2);
  let refused = 0;
  for (let trial = 0; trial < 1200; trial++) {
    const [where, what, how] = noise.subarray(trial * 3, trial * 3 + 3) as unknown as [number, number, number];
    let mutant = Buffer.from(payload);
    const at = Math.floor(where * (how < 0.5 ? 120 : mutant.length)); // the beginning holds the structure
    if (how < 0.9) mutant[at] = Math.floor(what * 256);
    else mutant = Buffer.concat([mutant.subarray(0, at), mutant.subarray(at + 1)]);
    const header = Buffer.from(good.subarray(0, 16));
    header.writeUInt32LE(mutant.length, 8);
    header.writeUInt32LE(crc32(mutant), 12);
    try {
      decodeLanguageModel(Buffer.concat([header, deflateRawSync(mutant, { level: 1 })]), "x.ngram").textScore("THE CAT SAT ON A MAT");
    } catch (error) {
      if (!(error instanceof UsmLiteError) || error.code !== "BAD_LANGUAGE_MODEL") t.fail(`trial ${trial}: ${String(error)}`);
      refused++;
    }
  }
  t.true(refused > 100 && refused < 1200, String(refused));
});

test("while searching, a text is scored as the model scores it, however it is cut into pieces", (t) => {
  const [alpha, beta] = [0.7, 1.3];
  for (const tokenizer of [trainTokenizer(texts, 31), trainTokenizer(texts, 48)]) {
    const scorer = new LanguageModelScorer(model, tokenizer, { alpha, beta });
    for (const text of ["THE CAT SAT ON THE MAT", "A ZEBRA SAT", "CAT'S CATS CA", "Q", ""]) {
      let state = scorer.start();
      for (const id of tokenizer.encode(text)) {
        state = scorer.extend(state, id);
        t.true(Number.isFinite(state.score));
      }
      const words = text.split(" ").filter(Boolean).length;
      t.true(Math.abs(scorer.finish(state) - (alpha * model.textScore(text) + beta * words)) < 1e-4, text);
    }
  }
});

test("a word's beginning counts at least as much as any word it can become after the same words, and not much more", (t) => {
  for (const order of [1, 2, 3, 4]) {
    const trained = trainLanguageModel(texts, { order });
    const { words } = trained.tree;
    const contexts = [trained.start, 0];
    for (const text of texts) {
      let context = trained.start;
      for (const word of text.toUpperCase().split(" ")) {
        context = trained.predict(context, trained.wordId(word) as number).context;
        contexts.push(context);
      }
    }
    for (const context of contexts) {
      for (let first = 0; first < words.length; first++) {
        for (let end = first + 1; end <= words.length; end++) {
          const ids = words.slice(first, end).map((_, index) => first + index + FIRST_WORD);
          const unigram = Math.max(...ids.map((id) => trained.unigramScore(id)));
          const best = trained.bestScore(context, first + FIRST_WORD, end + FIRST_WORD, unigram);
          const exact = Math.max(...ids.map((id) => trained.predict(context, id).score));
          t.true(best >= exact - 1e-9 && best < exact + 1, `order ${order}: ${best}, ${exact}`);
        }
      }
    }
  }
});

test("the search takes the likelier word, and unknown words where the sound is clear", (t) => {
  const tokenizer = tokenizerOf(["▁", ..."ABCDEGHMNORSTX"]);
  const scorer = new LanguageModelScorer(model, tokenizer);
  const decode = (sound: string, clear: number, other: string): string => {
    // Each letter is followed by a blank; where `other` differs, the sound is only a little likelier.
    const width = tokenizer.size;
    const values = new Float32Array(2 * sound.length * width).fill(Math.log(1e-4));
    [...sound].forEach((letter, position) => {
      const id = (character: string): number => tokenizer.idOf(character === " " ? "▁" : character) as number;
      values[2 * position * width + id(other[position] as string)] = Math.log(1 - clear);
      values[2 * position * width + id(letter)] = Math.log(clear);
      values[(2 * position + 1) * width] = Math.log(0.99);
    });
    const lattice = { values, frames: 2 * sound.length, tokens: width };
    return ctcBeamSearch(lattice, tokenizer, { secondsPerFrame: 0.04 }, { scorers: [scorer] })[0]?.text ?? "";
  };
  t.is(decode(" THE CAD", 0.6, " THE CAT"), "THE CAT");
  t.is(decode(" THE CAT", 0.6, " THE CAD"), "THE CAT");
  t.is(decode(" THE XER", 0.999, " THE CAT"), "THE XER");
});

test("a file of another kind is refused", (t) => {
  const path = join(folder, "other");
  writeFileSync(path, "hello, this is not a language model at all");
  t.throws(() => readLanguageModel(path), { code: "BAD_LANGUAGE_MODEL", message: /must begin with "UNGRAM01"/ });
});
