/** Word and character error rates with bootstrap confidence intervals. */
import { UsmLiteError } from "../errors.js";
import { RandomStream } from "../ops/random_stream.js";
import { normalizeText } from "./normalize.js";

/** What it takes to turn a reference into a hypothesis. */
export interface EditCounts {
  readonly substitutions: number;
  readonly deletions: number;
  readonly insertions: number;
  /** Words (or characters) of the reference. */
  readonly referenceLength: number;
}

/** What was said, and what was heard. */
export interface Transcription {
  readonly reference: string;
  readonly hypothesis: string;
}

/** An error rate over all utterances, with the edits that it counts. */
export interface ErrorRate extends EditCounts {
  /** (substitutions + deletions + insertions) / referenceLength; may exceed 1. */
  readonly rate: number;
  /** 95 % percentile bootstrap interval over utterances. */
  readonly interval: readonly [low: number, high: number];
  /** Of each utterance, in the order given. */
  readonly utterances: readonly EditCounts[];
}

export interface RelativeChange {
  /** (new rate - old rate) / old rate; negative is better. */
  readonly relativeChange: number;
  /** 95 % interval of a paired bootstrap: both systems are resampled with the same utterances. */
  readonly interval: readonly [low: number, high: number];
}

export interface BootstrapOptions {
  readonly seed?: number;
  readonly resamples?: number;
}

/**
 * Error rate over words of the normalized texts ({@link normalizeText}).
 *
 * @example
 * wordErrorRate([{ reference: "the cat sat", hypothesis: "the cat sat down" }]).rate; // 1/3
 */
export function wordErrorRate(transcriptions: Iterable<Transcription>, options: BootstrapOptions = {}): ErrorRate {
  return errorRate(transcriptions, (text) => (text === "" ? [] : text.split(" ")), options);
}

/**
 * Error rate over characters of the normalized texts, single spaces between words included.
 *
 * @example
 * characterErrorRate([{ reference: "cat", hypothesis: "cut" }]).rate; // 1/3
 */
export function characterErrorRate(transcriptions: Iterable<Transcription>, options: BootstrapOptions = {}): ErrorRate {
  return errorRate(transcriptions, (text) => [...text], options);
}

/**
 * How much better or worse `current` is than `baseline`, measured on the same utterances in the same order.
 * @throws UsmLiteError INVALID_ARGUMENT when they were measured on different utterances, or the baseline has no errors
 *
 * @example
 * const before = wordErrorRate([{ reference: "the cat sat", hypothesis: "a cat sits" }]);
 * const after = wordErrorRate([{ reference: "the cat sat", hypothesis: "the cat sits" }]);
 * relativeChange(before, after).relativeChange; // -0.5
 */
export function relativeChange(baseline: ErrorRate, current: ErrorRate, options: BootstrapOptions = {}): RelativeChange {
  const count = baseline.utterances.length;
  if (current.utterances.length !== count || current.referenceLength !== baseline.referenceLength) {
    throw new UsmLiteError("INVALID_ARGUMENT", "two systems are compared on the same utterances; these were measured on different ones");
  }
  if (errors(baseline) === 0) throw new UsmLiteError("INVALID_ARGUMENT", "no change is relative to a baseline without errors");
  const before = baseline.utterances.map(errors);
  const after = current.utterances.map(errors);
  const changes = resample(count, options, (draw) => {
    let sumBefore = 0;
    let sumAfter = 0;
    for (const index of draw) {
      sumBefore += before[index] as number;
      sumAfter += after[index] as number;
    }
    return (sumAfter - sumBefore) / sumBefore; // both rates have the same denominator
  }).filter(Number.isFinite);
  return { relativeChange: (errors(current) - errors(baseline)) / errors(baseline), interval: middle95(changes) };
}

/**
 * Levenshtein alignment: the fewest edits. Where several alignments have as few, substitutions are preferred to a
 * deletion with an insertion.
 */
export function countEdits(reference: readonly string[], hypothesis: readonly string[]): EditCounts {
  const width = hypothesis.length + 1;
  const cost = new Int32Array((reference.length + 1) * width);
  for (let j = 1; j < width; j++) cost[j] = j;
  for (let i = 1; i <= reference.length; i++) {
    const row = i * width;
    cost[row] = i;
    for (let j = 1; j < width; j++) {
      const diagonal = (cost[row - width + j - 1] as number) + (reference[i - 1] === hypothesis[j - 1] ? 0 : 1);
      cost[row + j] = Math.min(diagonal, (cost[row - width + j] as number) + 1, (cost[row + j - 1] as number) + 1);
    }
  }
  let substitutions = 0;
  let deletions = 0;
  let insertions = 0;
  for (let i = reference.length, j = hypothesis.length; i > 0 || j > 0;) {
    const here = cost[i * width + j] as number;
    const differs = reference[i - 1] === hypothesis[j - 1] ? 0 : 1;
    if (i > 0 && j > 0 && here === (cost[(i - 1) * width + j - 1] as number) + differs) {
      substitutions += differs;
      i--;
      j--;
    } else if (i > 0 && here === (cost[(i - 1) * width + j] as number) + 1) {
      deletions++;
      i--;
    } else {
      insertions++;
      j--;
    }
  }
  return { substitutions, deletions, insertions, referenceLength: reference.length };
}

function errorRate(transcriptions: Iterable<Transcription>, split: (text: string) => string[], options: BootstrapOptions): ErrorRate {
  const utterances = Array.from(transcriptions, ({ reference, hypothesis }) =>
    countEdits(split(normalizeText(reference)), split(normalizeText(hypothesis))),
  );
  const sum = (value: (counts: EditCounts) => number): number => utterances.reduce((total, counts) => total + value(counts), 0);
  const referenceLength = sum((counts) => counts.referenceLength);
  if (referenceLength === 0) throw new UsmLiteError("INVALID_ARGUMENT", "an error rate needs at least one reference word");
  const rates = resample(utterances.length, options, (draw) => {
    let edits = 0;
    let length = 0;
    for (const index of draw) {
      const counts = utterances[index] as EditCounts;
      edits += errors(counts);
      length += counts.referenceLength;
    }
    return edits / length;
  }).filter(Number.isFinite); // a draw of nothing but empty references has no rate
  const totals = {
    substitutions: sum((counts) => counts.substitutions),
    deletions: sum((counts) => counts.deletions),
    insertions: sum((counts) => counts.insertions),
    referenceLength,
  };
  return { ...totals, rate: errors(totals) / referenceLength, interval: middle95(rates), utterances };
}

const errors = (counts: EditCounts): number => counts.substitutions + counts.deletions + counts.insertions;

/** Draws `count` of `count` utterances with replacement, `resamples` times (Bisani and Ney 2004). */
function resample(count: number, options: BootstrapOptions, statistic: (draw: Int32Array) => number): number[] {
  const { seed = 0, resamples = 1000 } = options;
  const random = new RandomStream(seed);
  const draw = new Int32Array(count);
  return Array.from({ length: resamples }, () => {
    for (let i = 0; i < count; i++) draw[i] = random.integer(count);
    return statistic(draw);
  });
}

/** The 2.5th and 97.5th percentile, linear between neighbours. */
function middle95(values: number[]): [number, number] {
  const sorted = values.sort((a, b) => a - b);
  const percentile = (fraction: number): number => {
    const position = fraction * (sorted.length - 1);
    const below = sorted[Math.floor(position)] as number;
    const above = sorted[Math.ceil(position)] as number;
    return below + (above - below) * (position - Math.floor(position));
  };
  return [percentile(0.025), percentile(0.975)];
}
