/** The native prefix search beside its reference: the same sequences, times and scores, however it is bounded. */
import test from "ava";
import { NativePrefixSearch } from "../lib/decode/native_prefix_search.js";
import type { PrefixSearch, PrefixSearchLimits } from "../lib/decode/prefix_search.js";
import { ReferencePrefixSearch } from "../lib/decode/reference_prefix_search.js";
import { CtcBeamSearch, HotwordScorer, LanguageModelScorer, trainLanguageModel, type LogProbabilities } from "../lib/operations.js";
import { addon } from "../lib/native/addon.js";
import { randomLattice, tokenizerOf } from "./lattice.js";

const tokenizer = tokenizerOf(["▁", "▁T", ..."ABCDEHMNORST", "HE", "▁CAT", "</s>"]);
const model = trainLanguageModel(["the cat sat on the mat", "the cat ate the rat", "a rat sat on a cat", "on the mat sat a cat"]);
const usual: PrefixSearchLimits = { beamWidth: 32, beamThreshold: 14, tokenThreshold: 8, maximumTokens: 20, blankPenalty: 0 };
const bounded: readonly PrefixSearchLimits[] = [
  usual,
  { ...usual, beamWidth: 1 },
  { ...usual, beamWidth: 5, blankPenalty: 1.25 },
  { ...usual, beamThreshold: 2, tokenThreshold: 1 },
  { ...usual, maximumTokens: 3, beamWidth: 200 },
  { beamWidth: 1e6, beamThreshold: Infinity, tokenThreshold: Infinity, maximumTokens: 1e6, blankPenalty: 0 },
];

function same(search: PrefixSearch, reference: PrefixSearch): string | undefined {
  const [found, expected] = [search.ranked(), reference.ranked()];
  if (found.length !== expected.length) return `${found.length} sequences, not ${expected.length}`;
  for (const [index, one] of found.entries()) {
    const other = expected[index];
    for (const key of ["ids", "firstFrames", "endFrames", "peaks"] as const) {
      if (Array.from(one[key]).join() !== Array.from(other?.[key] ?? []).join()) return `${key} of sequence ${index}`;
    }
    for (const key of ["total", "score"] as const) {
      if (Math.abs(one[key] - (other?.[key] ?? NaN)) > 1e-9 * Math.abs(one[key]))
        return `${key} of sequence ${index}: ${one[key]}, not ${other?.[key]}`;
    }
  }
  const [settled, agreed] = [search.settled(), reference.settled()].map((ids) => Array.from(ids).join());
  return settled === agreed ? undefined : `settled: ${settled}, not ${agreed}`;
}

// With a negative weight letters make texts likelier: nothing can be told of a word before it is spelled.
for (const weights of [undefined, { alpha: 0.7, beta: 0.4 }, { alpha: 1, beta: 3 }, { alpha: -0.3, beta: -1 }]) {
  test(`the native search ${weights ? `with a language model (${JSON.stringify(weights)}) ` : ""}is its reference, piece by piece`, (t) => {
    const scorer = weights && new LanguageModelScorer(model, tokenizer, weights);
    for (const [index, limits] of bounded.entries()) {
      const everything = limits.beamWidth > 1000;
      const frames = everything ? 1 : 25;
      for (let seed = 0; seed < 4; seed++) {
        const search = new NativePrefixSearch(tokenizer, limits, scorer?.native);
        const reference = new ReferencePrefixSearch(tokenizer, limits, scorer);
        for (let piece = 0; piece < 3; piece++) {
          const input = randomLattice(frames, tokenizer.size, 1000 * index + 10 * seed + piece, 1 + seed);
          for (const one of [search, reference]) one.advance(input);
          t.is(same(search, reference), undefined, `limits ${index}, seed ${seed}, piece ${piece}`);
          if (seed % 2 === 0) continue;
          for (const one of [search, reference]) one.settleBefore((piece + 1) * frames - 3);
          t.is(same(search, reference), undefined, `limits ${index}, seed ${seed}, piece ${piece}, decided`);
        }
      }
    }
  });
}

test("searches advanced together find what they find alone, with whatever scorers", (t) => {
  const scorer = new LanguageModelScorer(model, tokenizer);
  const hotwords = new HotwordScorer(["cat"], tokenizer);
  const make = (): CtcBeamSearch[] =>
    Array.from(
      { length: 9 },
      (_, i) => new CtcBeamSearch(tokenizer, { secondsPerFrame: 0.04 }, { scorers: i < 7 ? [scorer] : i === 7 ? [] : [hotwords] }),
    );
  const [together, alone] = [make(), make()];
  for (let piece = 0; piece < 2; piece++) {
    const inputs = together.map((_, i) => randomLattice(10 + 3 * i, tokenizer.size, 20 * piece + i, 2));
    CtcBeamSearch.advanceTogether(together, inputs);
    alone.forEach((search, i) => search.advance(inputs[i] as LogProbabilities));
  }
  t.deepEqual(
    together.map((search) => search.best(3)),
    alone.map((search) => search.best(3)),
  );
  t.deepEqual(
    together.map(({ frames }) => frames),
    alone.map(({ frames }) => frames),
  );
  const [one] = make() as [CtcBeamSearch];
  const input = randomLattice(2, tokenizer.size, 1);
  for (const [searches, inputs] of [
    [
      [one, one],
      [input, input],
    ],
    [[one], []],
    [[one], [{ ...input, tokens: 2 }]],
  ] as const) {
    t.throws(() => CtcBeamSearch.advanceTogether(searches, inputs), { code: "INVALID_ARGUMENT" });
  }
  t.is(one.frames, 0);
  CtcBeamSearch.advanceTogether([], []);
});

test("what is no number is refused where the reference refuses it", (t) => {
  const input = randomLattice(4, tokenizer.size, 1);
  input.values[2 * tokenizer.size + tokenizer.blankId] = NaN;
  for (const search of [new NativePrefixSearch(tokenizer, usual), new ReferencePrefixSearch(tokenizer, usual)]) {
    t.throws(() => search.advance(input), { code: "INVALID_ARGUMENT", message: /frame 2 are not numbers/ });
  }
  t.throws(() => new CtcBeamSearch(tokenizer, { secondsPerFrame: 0.04 }).advance({ values: new Float32Array(3), frames: 1, tokens: 3 }), {
    code: "INVALID_ARGUMENT",
    message: /tokenizer has/,
  });
});

test("a language model whose memory was taken away is an error, not a crash", (t) => {
  const own = trainLanguageModel(["the cat", "a cat"]);
  const scorer = new LanguageModelScorer(own, tokenizer);
  const search = new CtcBeamSearch(tokenizer, { secondsPerFrame: 0.04 }, { scorers: [scorer] });
  search.advance(randomLattice(5, tokenizer.size, 3));
  structuredClone(own.tree.word, { transfer: [own.tree.word.buffer as ArrayBuffer] });
  t.throws(() => search.advance(randomLattice(5, tokenizer.size, 4)), { code: "INVALID_ARGUMENT", message: /transferred/ });
  const other = new LanguageModelScorer(model, tokenizerOf(["A"])).native;
  t.throws(() => new NativePrefixSearch(tokenizer, usual, other), { code: "INVALID_ARGUMENT", message: /another tokenizer/ });
});

test("tables that point outside each other are refused", (t) => {
  const broken = trainLanguageModel(["the cat", "a cat"]);
  broken.suffix[broken.suffix.length - 1] = 1e6;
  t.throws(() => new LanguageModelScorer(broken, tokenizer).native, { code: "INVALID_ARGUMENT", message: /shorter n-grams/ });
  const spelled = trainLanguageModel(["the cat", "a cat"]);
  spelled.spelling.following[0] = -1;
  t.throws(() => new LanguageModelScorer(spelled, tokenizer).native, { code: "INVALID_ARGUMENT", message: /spelling/ });

  const { languageScorerCreate } = addon as { languageScorerCreate(tables: object, alpha: number, beta: number): unknown };
  const integers = (...values: number[]): Int32Array => Int32Array.from(values);
  const good = {
    ...{ word: integers(-1, 0, 1, 2), firstChild: integers(1, 4, 4, 4, 4), suffix: integers(0, 0, 0, 0) },
    ...{ probability: new Uint8Array(4), backoff: new Uint8Array(4), start: 0, firstOfLongest: 4 },
    ...{ spellingScores: new Float32Array(2), spellingFollowing: integers(0, 0), spellingWidth: 2, spellingStart: 0, endSymbol: 1 },
    ...{ lexiconChildren: integers(1, -1), lexiconSymbols: 1, wordAt: integers(-1, 0), bestBelow: new Float32Array(2) },
    ...{ firstBelow: integers(0, 0), endBelow: integers(1, 1) },
    ...{ pieceOffsets: integers(0, 1), pieceSymbols: integers(0), beginsWord: new Uint8Array(1) },
  };
  t.notThrows(() => languageScorerCreate(good, 1, 1));
  for (const wrong of [
    { lexiconChildren: integers() },
    { firstBelow: integers(0, 2 ** 31 - 1) },
    { firstBelow: integers(-2, 0) },
    { endBelow: integers(1, 2) },
    { pieceSymbols: integers(2) },
  ]) {
    t.throws(() => languageScorerCreate({ ...good, ...wrong }, 1, 1), { code: "INVALID_ARGUMENT" }, JSON.stringify(wrong));
  }
});

test("a search takes every token once", (t) => {
  type Create = (tokens: number, blank: number, allowed: Int32Array, ...limits: number[]) => unknown;
  const create = (addon as { prefixSearchCreate: Create }).prefixSearchCreate;
  for (const allowed of [
    [1, 1],
    [2, 1],
    [1, 3],
  ]) {
    t.throws(() => create(3, 0, Int32Array.from(allowed), 8, 14, 8, 20, 0), { code: "INVALID_ARGUMENT", message: /allowed tokens/ });
  }
});
