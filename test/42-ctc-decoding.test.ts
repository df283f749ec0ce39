import test from "ava";
import { ctcBeamSearch, CtcBeamSearch, ctcGreedy } from "../lib/operations.js";
import type { PrefixScorer, PrefixState } from "../lib/decode/prefix_scorer.js";
import { clearLattice, exhaustiveSums, randomLattice, tokenizerOf } from "./lattice.js";

const letters = tokenizerOf(["▁A", "B", "▁C"]);
const times = { secondsPerFrame: 0.04 };
const exact = { beamWidth: 1e6, beamThreshold: Infinity, tokenThreshold: Infinity, maximumTokens: 1e6 };

test("greedy decoding merges repeats, removes blanks and says when each word was spoken", (t) => {
  //                                    A  A     B     C     C  C  B
  const lattice = clearLattice([0, 1, 1, 0, 2, 0, 3, 0, 3, 3, 2, 0], 4);
  const { text, tokens, words, logProbability } = ctcGreedy(lattice, letters, {
    secondsPerFrame: 0.04,
    startSeconds: 10,
  });
  t.is(text, "AB C CB");
  t.deepEqual(
    tokens.map(({ id, firstFrame, endFrame }) => [id, firstFrame, endFrame]),
    [
      [1, 1, 3],
      [2, 4, 5],
      [3, 6, 7],
      [3, 8, 10],
      [2, 10, 11],
    ],
  );
  t.deepEqual(
    words.map(({ word, start, end }) => [word, start, end]),
    [
      ["AB", 10.04, 10.2],
      ["C", 10.24, 10.28],
      ["CB", 10.32, 10.44],
    ],
  );
  t.true(words.every(({ confidence }) => Math.abs(confidence - 0.97) < 1e-6));
  t.true(Math.abs(logProbability - 12 * Math.log(0.97)) < 1e-5);
  t.deepEqual(ctcGreedy({ values: new Float32Array(0), frames: 0, tokens: 4 }, letters, times).words, []);
});

test("beam search without limits finds the sum of all alignments of every sequence", (t) => {
  for (let trial = 0; trial < 30; trial++) {
    const lattice = randomLattice(1 + (trial % 6), 4, trial);
    const sums = exhaustiveSums(lattice);
    const found = ctcBeamSearch(lattice, letters, times, exact, 1e6);
    t.is(found.length, sums.size);
    for (const { tokens, logProbability, score } of found) {
      const expected = Math.log(sums.get(tokens.map(({ id }) => id).join(" ")) as number);
      t.true(Math.abs(logProbability - expected) < 1e-5);
      t.is(score, logProbability);
    }
    t.deepEqual(
      found.map(({ score }) => score),
      found.map(({ score }) => score).sort((a, b) => b - a),
    );
  }
});

test("beam search within limits agrees on the best sequence where it is likely", (t) => {
  for (let trial = 0; trial < 20; trial++) {
    const lattice = randomLattice(6, 4, trial, 5);
    const [best] = ctcBeamSearch(lattice, letters, times, { beamWidth: 8 });
    const [likeliest] = [...exhaustiveSums(lattice)].sort(([, a], [, b]) => b - a) as [[string, number]];
    t.is(best?.tokens.map(({ id }) => id).join(" "), likeliest[0]);
  }
});

test("a blank penalty is taken from the blank of every frame", (t) => {
  for (let trial = 0; trial < 10; trial++) {
    const lattice = randomLattice(1 + (trial % 5), 4, 100 + trial);
    const changed = { ...lattice, values: lattice.values.map((value, index) => (index % 4 === letters.blankId ? value - 1.5 : value)) };
    const expected = ctcBeamSearch(changed, letters, times, exact, 1e6);
    t.deepEqual(ctcBeamSearch(lattice, letters, times, { ...exact, blankPenalty: 1.5 }, 1e6), expected);
  }
  t.throws(() => new CtcBeamSearch(letters, times, { blankPenalty: -1 }), { code: "INVALID_ARGUMENT", message: /blankPenalty/ });
});

test("beam search prefers a sum of alignments over the best single one", (t) => {
  // Two frames, blank 0.6: the best alignment is two blanks (0.36), but "A" sums to 0.4 * 0.6 * 2 + 0.16 = 0.64.
  const values = Float32Array.from([0.6, 0.4, 0.6, 0.4], Math.log);
  const lattice = { values, frames: 2, tokens: 2 };
  const tokenizer = tokenizerOf(["▁A"]);
  t.is(ctcGreedy(lattice, tokenizer, times).text, "");
  const [best, second] = ctcBeamSearch(lattice, tokenizer, times, {}, 2);
  t.is(best?.text, "A");
  t.true(Math.abs((best?.logProbability ?? 0) - Math.log(0.64)) < 1e-6);
  t.is(second?.text, "");
});

test("both decoders agree on times and confidences where the lattice is clear", (t) => {
  const ids = [0, 1, 1, 0, 2, 0, 0, 3, 3, 0, 3, 2, 2, 0];
  const lattice = clearLattice(ids, 4, 0.999);
  const greedy = ctcGreedy(lattice, letters, times);
  const [best] = ctcBeamSearch(lattice, letters, times);
  t.deepEqual(best?.tokens, greedy.tokens);
  t.deepEqual(best?.words, greedy.words);
});

test("searching piece by piece gives what searching at once gives", (t) => {
  const lattice = randomLattice(40, 4, 5, 4);
  const whole = ctcBeamSearch(lattice, letters, times, {}, 5);
  const search = new CtcBeamSearch(letters, times);
  for (const [begin, end] of [
    [0, 1],
    [1, 17],
    [17, 17],
    [17, 40],
  ] as const) {
    search.advance({ values: lattice.values.subarray(begin * 4, end * 4), frames: end - begin, tokens: 4 });
    search.best();
  }
  t.is(search.frames, 40);
  t.deepEqual(search.best(5), whole);
});

test("different tokens of the same text add up, and a lone space is no word", (t) => {
  const tokenizer = tokenizerOf(["▁", "A", "▁A"]);
  const lattice = randomLattice(3, 4, 1);
  const sums = exhaustiveSums(lattice);
  const found = ctcBeamSearch(lattice, tokenizer, times, exact, 1e6);
  const a = found.find(({ text }) => text === "A");
  const expected = ["2", "3", "1 2", "2 1", "1 2 1", "1 3", "3 1", "1 3 1"].reduce((sum, key) => sum + (sums.get(key) ?? 0), 0);
  t.true(Math.abs(Math.exp(a?.logProbability ?? 0) - expected) < 1e-6);
  t.is(new Set(found.map(({ text }) => text)).size, found.length);
});

test("scorers are added while searching and at the end", (t) => {
  interface Count extends PrefixState {
    readonly letters: number;
  }
  const wantsTwo: PrefixScorer<Count> = {
    start: () => ({ letters: 0, score: 0 }),
    extend: (state) => ({ letters: state.letters + 1, score: state.score - 0.5 }),
    finish: (state) => (state.letters === 2 ? 0 : -100),
  };
  const sums = exhaustiveSums(randomLattice(5, 4, 9));
  const found = ctcBeamSearch(randomLattice(5, 4, 9), letters, times, { ...exact, scorers: [wantsTwo, wantsTwo] }, 1e6);
  t.is(found[0]?.tokens.length, 2);
  for (const { tokens, score } of found) {
    const acoustic = Math.log(sums.get(tokens.map(({ id }) => id).join(" ")) as number);
    const expected = acoustic + (tokens.length === 2 ? 0 : -200);
    t.true(Math.abs(score - expected) < 1e-4);
  }
});

test("special tokens are never decoded by the search", (t) => {
  const tokenizer = tokenizerOf(["</s>", "<unk>", "▁A"]);
  const [best] = ctcBeamSearch(clearLattice([1, 3, 2, 1], 4, 0.9), tokenizer, times);
  t.is(best?.text, "A");
  t.is(ctcGreedy(clearLattice([1, 3, 2, 1], 4, 0.9), tokenizer, times).text, "A");
});

test("misuse is a coded error", (t) => {
  const lattice = randomLattice(3, 4, 1);
  t.throws(() => ctcGreedy({ ...lattice, tokens: 3 }, letters, times), {
    code: "INVALID_ARGUMENT",
    message: /tokenizer has 4/,
  });
  t.throws(() => ctcGreedy({ ...lattice, frames: 4 }, letters, times), {
    code: "INVALID_ARGUMENT",
    message: /are 16 numbers, got 12/,
  });
  t.throws(() => ctcBeamSearch(lattice, letters, times, { beamWidth: 0 }), {
    code: "INVALID_ARGUMENT",
    message: /beamWidth/,
  });
  t.throws(() => ctcBeamSearch(lattice, letters, times, { tokenThreshold: NaN }), { code: "INVALID_ARGUMENT" });
  const broken = { ...lattice, values: new Float32Array(12).fill(NaN) };
  t.throws(() => ctcBeamSearch(broken, letters, times), {
    code: "INVALID_ARGUMENT",
    message: /frame 0 are not numbers/,
  });
  t.is(ctcBeamSearch({ values: new Float32Array(0), frames: 0, tokens: 4 }, letters, times)[0]?.text, "");
});

test("what is decided for stays, and later input adds to it", (t) => {
  const tokenizer = tokenizerOf(["▁A", "▁B", "C", "D"]);
  for (let seed = 0; seed < 20; seed++) {
    const search = new CtcBeamSearch(tokenizer, { secondsPerFrame: 0.04 }, { beamWidth: 8 });
    const free = new CtcBeamSearch(tokenizer, { secondsPerFrame: 0.04 }, { beamWidth: 8 });
    let settled = "";
    let freely = "";
    for (let piece = 0; piece < 8; piece++) {
      const input = randomLattice(6, tokenizer.size, 100 * seed + piece);
      search.advance(input);
      free.advance(input);
      const best = search.best()[0]?.text ?? "";
      search.settleBefore(search.frames);
      t.true(search.settledText().startsWith(settled));
      settled = search.settledText();
      t.true(best.startsWith(settled) || search.best()[0]?.text.startsWith(settled));
      t.true(free.settledText().startsWith(freely), "without decisions, what all agree on");
      freely = free.settledText();
    }
    t.true(search.best()[0]?.text.startsWith(settled));
    t.true(free.best().every(({ text }) => text.startsWith(freely)));
    t.true(settled.length >= freely.length);
  }
});
