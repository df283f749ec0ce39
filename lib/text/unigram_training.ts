/**
 * Learns the pieces of a unigram model by expectation maximisation, as SentencePiece does (Kudo 2018, section 3.2):
 * begin with every frequent substring, then re-estimate probabilities and drop the pieces whose loss costs least, until
 * few enough are left.
 */
import type { ScoredPiece } from "./unigram_model.js";

export interface UnigramTrainingOptions {
  /** How many pieces to learn, the required characters included. */
  readonly size: number;
  /** Always kept, so that every word of these can be written. */
  readonly characters: readonly string[];
  /** Longest piece in characters; default 16. */
  readonly maximumLength?: number;
}

const SEEDS_PER_PIECE = 20;
const LARGEST_SEED = 20_000;
const ESTIMATIONS_PER_PRUNING = 2;
const KEPT_PER_PRUNING = 0.75;
const PRUNED_BELOW = 0.5; // expected count

/** @param words distinct words with their number of occurrences */
export function trainUnigram(words: ReadonlyMap<string, number>, options: UnigramTrainingOptions): ScoredPiece[] {
  const { size, characters, maximumLength = 16 } = options;
  const required = new Set(characters);
  const seeds = Math.min(LARGEST_SEED, SEEDS_PER_PIECE * (size - characters.length));
  let pieces = seedPieces(words, required, maximumLength, seeds);
  for (;;) {
    for (let round = 0; round < ESTIMATIONS_PER_PRUNING; round++) {
      pieces = reestimated(expectedCounts(words, pieces, maximumLength), required);
    }
    const goal = Math.floor(size * 1.1); // the last tenth goes by probability alone
    if (pieces.size <= goal) break;
    const kept = pruned(words, pieces, required, maximumLength, Math.max(goal, Math.floor(pieces.size * KEPT_PER_PRUNING)));
    if (kept.size === pieces.size) break;
    pieces = kept;
  }
  return finalPieces(pieces, characters, size);
}

type Scores = ReadonlyMap<string, number>;

function seedPieces(words: ReadonlyMap<string, number>, required: ReadonlySet<string>, maximumLength: number, seeds: number): Scores {
  const occurrences = new Map<string, number>();
  for (const [word, count] of words) {
    for (let begin = 0; begin < word.length; begin++) {
      const last = Math.min(word.length, begin + maximumLength);
      for (let end = begin + 1; end <= last; end++) {
        const piece = word.slice(begin, end);
        occurrences.set(piece, (occurrences.get(piece) ?? 0) + count);
      }
    }
  }
  const candidates = [...occurrences]
    .filter(([piece, count]) => piece.length > 1 && count > 1)
    .map(([piece, count]): [string, number] => [piece, count * piece.length])
    .sort(byScore)
    .slice(0, seeds);
  for (const character of required) candidates.push([character, occurrences.get(character) ?? 1]);
  const total = Math.log(candidates.reduce((sum, [, weight]) => sum + weight, 0));
  return new Map(candidates.map(([piece, weight]) => [piece, Math.log(weight) - total]));
}

/** Forward-backward over all segmentations of every word: how often each piece is expected to be used. */
function expectedCounts(words: ReadonlyMap<string, number>, pieces: Scores, maximumLength: number): Map<string, number> {
  const counts = new Map<string, number>([...pieces.keys()].map((piece) => [piece, 0]));
  for (const [word, occurrences] of words) {
    const length = word.length;
    // Probabilities, scaled so that the best piece per position does not underflow: words are short, doubles suffice.
    const forward = new Float64Array(length + 1);
    const backward = new Float64Array(length + 1);
    forward[0] = backward[length] = 1;
    const arcs: [begin: number, end: number, piece: string, probability: number][] = [];
    for (let begin = 0; begin < length; begin++) {
      for (let end = begin + 1; end <= Math.min(length, begin + maximumLength); end++) {
        const piece = word.slice(begin, end);
        const score = pieces.get(piece);
        if (score !== undefined) arcs.push([begin, end, piece, Math.exp(score)]);
      }
    }
    for (const [begin, end, , probability] of arcs) forward[end]! += forward[begin]! * probability;
    for (let i = arcs.length - 1; i >= 0; i--) {
      const [begin, end, , probability] = arcs[i] as (typeof arcs)[number];
      backward[begin]! += backward[end]! * probability;
    }
    const total = forward[length]!;
    if (total === 0) continue; // holds a character outside of the alphabet
    for (const [begin, end, piece, probability] of arcs) {
      const share = (forward[begin]! * probability * backward[end]!) / total;
      counts.set(piece, (counts.get(piece) as number) + occurrences * share);
    }
  }
  return counts;
}

/** Variational Bayes with a sparse prior, exp(digamma(count)): rare pieces lose more than their share. */
function reestimated(counts: ReadonlyMap<string, number>, required: ReadonlySet<string>): Scores {
  const kept = [...counts]
    .filter(([piece, count]) => count >= PRUNED_BELOW || required.has(piece))
    .map(([piece, count]): [string, number] => [piece, Math.max(count, PRUNED_BELOW)]);
  const total = digamma(kept.reduce((sum, [, count]) => sum + count, 0));
  return new Map(kept.map(([piece, count]) => [piece, digamma(count) - total]));
}

/** Keeps the `goal` pieces whose absence would lower the likelihood of the text most. */
function pruned(
  words: ReadonlyMap<string, number>,
  pieces: Scores,
  required: ReadonlySet<string>,
  maximumLength: number,
  goal: number,
): Scores {
  const frequency = new Map<string, number>();
  let total = 0;
  for (const [word, occurrences] of words) {
    for (const piece of bestSegmentation(word, pieces, maximumLength) ?? []) {
      frequency.set(piece, (frequency.get(piece) ?? 0) + occurrences);
      total += occurrences;
    }
  }
  const losses: [string, number][] = [];
  for (const piece of pieces.keys()) {
    if (required.has(piece)) continue;
    const count = frequency.get(piece) ?? 0;
    if (count === 0) continue; // never in a best segmentation
    const instead = bestSegmentation(piece, pieces, piece.length - 1) as string[]; // characters remain, so one exists
    // Log probability of the piece now, and of its replacements after they have taken over its occurrences.
    const now = Math.log(count / total);
    const newTotal = Math.log(total + count * (instead.length - 1));
    const later = instead.reduce((sum, part) => sum + Math.log((frequency.get(part) ?? 0) + count) - newTotal, 0);
    losses.push([piece, count * (now - later)]);
  }
  losses.sort(byScore);
  const survivors = new Set([...required, ...losses.slice(0, Math.max(0, goal - required.size)).map(([piece]) => piece)]);
  return new Map([...pieces].filter(([piece]) => survivors.has(piece)));
}

/** The most probable pieces of `text`, none longer than `maximumLength`; undefined when no row of pieces spells it. */
function bestSegmentation(text: string, pieces: Scores, maximumLength: number): string[] | undefined {
  const score = new Float64Array(text.length + 1).fill(-Infinity);
  const begins = new Int32Array(text.length + 1);
  score[0] = 0;
  for (let begin = 0; begin < text.length; begin++) {
    for (let end = begin + 1; end <= Math.min(text.length, begin + maximumLength); end++) {
      const candidate = score[begin]! + (pieces.get(text.slice(begin, end)) ?? -Infinity);
      if (candidate > score[end]!) {
        score[end] = candidate;
        begins[end] = begin;
      }
    }
  }
  if (score[text.length] === -Infinity) return undefined;
  const segmentation: string[] = [];
  for (let end = text.length; end > 0; end = begins[end]!) segmentation.push(text.slice(begins[end]!, end));
  return segmentation.reverse();
}

function finalPieces(pieces: Scores, characters: readonly string[], size: number): ScoredPiece[] {
  const longer = [...pieces].filter(([piece]) => piece.length > 1).sort(byScore);
  const chosen = [
    ...characters.map((character): [string, number] => [character, pieces.get(character) as number]),
    ...longer.slice(0, Math.max(0, size - characters.length)),
  ];
  return chosen.sort(byScore);
}

// Highest first; equal scores in the order of code units, so that the same text gives the same pieces everywhere.
function byScore([a, scoreA]: ScoredPiece, [b, scoreB]: ScoredPiece): number {
  return scoreB - scoreA || (a < b ? -1 : a > b ? 1 : 0);
}

/** d/dx ln gamma(x): recurrence up to x >= 7, then the asymptotic series (Abramowitz and Stegun 6.3.18). */
function digamma(x: number): number {
  let result = 0;
  for (; x < 7; x++) result -= 1 / x;
  const inverse = 1 / (x * x);
  return result + Math.log(x) - 0.5 / x - inverse * (1 / 12 - inverse * (1 / 120 - inverse / 252));
}
