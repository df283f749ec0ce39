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
  const numbers = new Map<string, number>();
  const numbered = (symbols: readonly string[]): Int32Array =>
    Int32Array.from(symbols, (symbol) => {
      const number = numbers.get(symbol) ?? numbers.size;
      numbers.set(symbol, number);
      return number;
    });
  const [from, to] = [numbered(reference), numbered(hypothesis)];
  // Alignments with as many edits as the band is wide stay in it (Ukkonen 1985): hours of speech take neither memory nor time for all pairs.
  for (let band = Math.max(narrowestBand, Math.abs(from.length - to.length)); ; band *= 2) {
    const counts = editsWithin(band, from, to);
    if (counts.substitutions + counts.deletions + counts.insertions <= band) return counts;
  }
}

const narrowestBand = 256;
const outside = 2 ** 30;

/** The fewest edits of alignments that never have `band` more symbols of one text than of the other behind them. */
function editsWithin(band: number, reference: Int32Array, hypothesis: Int32Array): EditCounts {
  const width = hypothesis.length + 1;
  const row = (): Int32Array => new Int32Array(width).fill(outside);
  // Of the best alignment of the first i symbols with the first j, and in the row before of the first i - 1.
  let [cost, costBefore, substitutions, substitutionsBefore, deletions, deletionsBefore] = [row(), row(), row(), row(), row(), row()];
  for (let j = 0; j < width && j <= band; j++) {
    cost[j] = j;
    substitutions[j] = deletions[j] = 0;
  }
  for (let i = 1; i <= reference.length; i++) {
    [cost, costBefore, substitutions, substitutionsBefore] = [costBefore, cost, substitutionsBefore, substitutions];
    [deletions, deletionsBefore] = [deletionsBefore, deletions];
    const symbol = reference[i - 1];
    const begin = Math.max(0, i - band);
    const end = Math.min(width - 1, i + band);
    let left = outside;
    for (let j = begin; j <= end; j++) {
      const differs = symbol === hypothesis[j - 1] ? 0 : 1;
      const diagonal = j > 0 ? (costBefore[j - 1] as number) + differs : outside;
      const up = (costBefore[j] as number) + 1;
      if (diagonal <= up && diagonal <= left + 1) {
        left = diagonal;
        substitutions[j] = (substitutionsBefore[j - 1] as number) + differs;
        deletions[j] = deletionsBefore[j - 1] as number;
      } else if (up <= left + 1) {
        left = up;
        substitutions[j] = substitutionsBefore[j] as number;
        deletions[j] = (deletionsBefore[j] as number) + 1;
      } else {
        left += 1;
        substitutions[j] = substitutions[j - 1] as number;
        deletions[j] = deletions[j - 1] as number;
      }
      cost[j] = left;
    }
    if (end + 1 < width) cost[end + 1] = outside;
  }
  const [substituted, deleted] = [substitutions.at(-1) as number, deletions.at(-1) as number];
  const insertions = (cost.at(-1) as number) - substituted - deleted;
  return { substitutions: substituted, deletions: deleted, insertions, referenceLength: reference.length };
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
