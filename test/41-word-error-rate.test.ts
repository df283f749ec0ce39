import test from "ava";
import { characterErrorRate, relativeChange, wordErrorRate } from "../lib/operations.js";
import { countEdits } from "../lib/text/word_error_rate.js";
import { randomValues } from "./gradient.js";

test("edits are counted as substitutions, deletions and insertions", (t) => {
  const counts = (reference: string, hypothesis: string): number[] => {
    const { substitutions, deletions, insertions } = countEdits([...reference], [...hypothesis]);
    return [substitutions, deletions, insertions];
  };
  t.deepEqual(counts("", ""), [0, 0, 0]);
  t.deepEqual(counts("abc", ""), [0, 3, 0]);
  t.deepEqual(counts("", "ab"), [0, 0, 2]);
  t.deepEqual(counts("kitten", "sitting"), [2, 0, 1]);
  t.deepEqual(counts("abcd", "acd"), [0, 1, 0]);
  t.deepEqual(counts("ab", "ba"), [2, 0, 0]);
});

test("the number of edits is the least possible", (t) => {
  const least = (a: string, b: string): number => {
    if (!a || !b) return a.length + b.length;
    return Math.min(least(a.slice(1), b) + 1, least(a, b.slice(1)) + 1, least(a.slice(1), b.slice(1)) + (a[0] === b[0] ? 0 : 1));
  };
  const noise = randomValues(600, 3);
  for (let trial = 0; trial < 50; trial++) {
    const word = (from: number): string =>
      Array.from(noise.subarray(trial * 12 + from, trial * 12 + from + 6), (value) => (value < -0.6 ? "" : value < 0.2 ? "a" : "b")).join(
        "",
      );
    const [reference, hypothesis] = [word(0), word(6)];
    const { substitutions, deletions, insertions } = countEdits([...reference], [...hypothesis]);
    t.is(substitutions + deletions + insertions, least(reference, hypothesis));
    t.is(reference.length - deletions + insertions, hypothesis.length);
  }
});

const system = (errorEvery: number) =>
  Array.from({ length: 200 }, (_, i) => ({
    reference: "one two, three four",
    hypothesis: i % errorEvery ? "ONE TWO THREE FOUR" : "ONE TWO FREE",
  }));

test("rates are over all words, with an interval that repeats for a seed", (t) => {
  const rate = wordErrorRate(system(4));
  t.is(rate.rate, 100 / 800);
  t.deepEqual([rate.substitutions, rate.deletions, rate.insertions, rate.referenceLength], [50, 50, 0, 800]);
  t.deepEqual(rate.utterances[0], { substitutions: 1, deletions: 1, insertions: 0, referenceLength: 4 });
  // The number of bad utterances of 200 is binomial with p = 1/4: standard deviation 6.1, two errors each of 800 words.
  t.true(Math.abs(rate.interval[0] - (0.125 - 1.96 * 0.0153)) < 0.004, String(rate.interval));
  t.true(Math.abs(rate.interval[1] - (0.125 + 1.96 * 0.0153)) < 0.004, String(rate.interval));
  t.deepEqual(wordErrorRate(system(4)).interval, rate.interval);
  t.notDeepEqual(wordErrorRate(system(4), { seed: 1 }).interval, rate.interval);
  t.is(characterErrorRate([{ reference: "AB C", hypothesis: "AC" }]).rate, 2 / 4);
  t.is(
    wordErrorRate([
      { reference: "", hypothesis: "A" },
      { reference: "A B", hypothesis: "A B" },
    ]).rate,
    0.5,
  );
  t.throws(() => wordErrorRate([{ reference: "...", hypothesis: "A" }]), { code: "INVALID_ARGUMENT" });
});

test("the relative change of two systems is paired", (t) => {
  const change = relativeChange(wordErrorRate(system(4)), wordErrorRate(system(2)));
  t.is(change.relativeChange, 1);
  t.true(change.interval[0] > 0.6 && change.interval[1] < 1.7);
  const same = relativeChange(wordErrorRate(system(4)), wordErrorRate(system(4)));
  t.deepEqual(same, { relativeChange: 0, interval: [0, 0] });
  t.throws(() => relativeChange(wordErrorRate(system(4)), wordErrorRate(system(4).slice(1))), {
    code: "INVALID_ARGUMENT",
  });
});
