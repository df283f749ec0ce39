import test from "ava";
import { characterErrorRate, relativeChange, wordErrorRate } from "../lib/operations.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { countEdits, type EditCounts } from "../lib/text/word_error_rate.js";
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

test("edits of long texts, and of texts that have nothing in common, are those of the whole table", (t) => {
  const random = new RandomStream(3);
  const words = (length: number, kinds: number): string[] => Array.from({ length }, () => `w${random.integer(kinds)}`);
  for (const [length, other, kinds] of [
    [700, 0, 9],
    [900, 3, 40],
    [40, 1200, 5],
    [1100, 600, 2],
  ] as const) {
    const reference = words(length, kinds);
    const heard = reference.flatMap((word) => (random.integer(10) < 8 ? [word] : words(random.integer(3), kinds)));
    const hypothesis = other === 0 ? heard : words(other, kinds);
    t.deepEqual(countEdits(reference, hypothesis), editsOfTable(reference, hypothesis), `${length} ${other} ${kinds}`);
  }
  // 20 minutes of speech letter by letter: a table of both would take 1.6 GB.
  const letters = words(20_000, 28);
  const [first, ...rest] = letters as [string, ...string[]];
  t.deepEqual(countEdits(letters, [...rest, first, "more"]), { substitutions: 0, deletions: 1, insertions: 2, referenceLength: 20_000 });
});

/** Wagner and Fischer 1974: all prefixes of one by all of the other, then the way back. */
function editsOfTable(reference: readonly string[], hypothesis: readonly string[]): EditCounts {
  const cost = [...reference, ""].map((_, i) => [...hypothesis, ""].map((__, j) => (i === 0 ? j : j === 0 ? i : 0)));
  const at = (i: number, j: number): number => cost[i]?.[j] ?? Infinity;
  const differs = (i: number, j: number): number => (reference[i - 1] === hypothesis[j - 1] ? 0 : 1);
  for (let i = 1; i <= reference.length; i++) {
    for (let j = 1; j <= hypothesis.length; j++) {
      (cost[i] as number[])[j] = Math.min(at(i - 1, j - 1) + differs(i, j), at(i - 1, j) + 1, at(i, j - 1) + 1);
    }
  }
  const counts = { substitutions: 0, deletions: 0, insertions: 0, referenceLength: reference.length };
  for (let i = reference.length, j = hypothesis.length; i > 0 || j > 0;) {
    if (i > 0 && j > 0 && at(i, j) === at(i - 1, j - 1) + differs(i, j)) counts.substitutions += differs(i--, j--);
    else if (i > 0 && at(i, j) === at(i - 1, j) + 1) (counts.deletions++, i--);
    else (counts.insertions++, j--);
  }
  return counts;
}
