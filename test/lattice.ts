/** Small CTC lattices, and their exact answers by looking at every alignment. */
import type { LogProbabilities } from "../lib/decode/hypothesis.js";
import { Tokenizer } from "../lib/operations.js";
import { randomValues } from "./gradient.js";

/** A tokenizer of the blank and the given pieces. */
export const tokenizerOf = (pieces: readonly string[]): Tokenizer =>
  new Tokenizer(["<pad>", ...pieces].map((piece) => [piece, 0] as const));

/** Random rows that sum to one; larger `contrast` makes them more certain. */
export function randomLattice(frames: number, tokens: number, seed: number, contrast = 2): LogProbabilities {
  const values = randomValues(frames * tokens, seed);
  for (let frame = 0; frame < frames; frame++) {
    const row = values.subarray(frame * tokens, (frame + 1) * tokens).map((value) => value * contrast);
    const sum = Math.log(row.reduce((total, value) => total + Math.exp(value), 0));
    values.set(
      row.map((value) => value - sum),
      frame * tokens,
    );
  }
  return { values, frames, tokens };
}

/** Rows that say the given ids clearly. */
export function clearLattice(ids: readonly number[], tokens: number, probability = 0.97): LogProbabilities {
  const values = new Float32Array(ids.length * tokens).fill(Math.log((1 - probability) / (tokens - 1)));
  ids.forEach((id, frame) => (values[frame * tokens + id] = Math.log(probability)));
  return { values, frames: ids.length, tokens };
}

/** The probability of every token sequence (ids joined by spaces), summed over all its alignments. */
export function exhaustiveSums(lattice: LogProbabilities): Map<string, number> {
  const sums = new Map<string, number>();
  const { values, frames, tokens } = lattice;
  const visit = (frame: number, previous: number, ids: readonly number[], score: number): void => {
    if (frame === frames) {
      const key = ids.join(" ");
      sums.set(key, (sums.get(key) ?? 0) + Math.exp(score));
      return;
    }
    for (let id = 0; id < tokens; id++) {
      const grown = id !== 0 && id !== previous ? [...ids, id] : ids;
      visit(frame + 1, id, grown, score + (values[frame * tokens + id] as number));
    }
  };
  visit(0, 0, [], 0);
  return sums;
}
