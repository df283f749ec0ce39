/** Drawing the next token at a temperature. */
import type { AllowedTokens, ExcludedTokens, TokenChoice } from "../ops/token_choice.js";
import type { RandomStream } from "../ops/random_stream.js";
import { bestIndex, logSumExp } from "./transducer.js";

export interface Sampling {
  /** Above 0. */
  readonly temperature: number;
  readonly random: RandomStream;
}

/** A token that may come next, with probabilities proportional to e^(score / temperature). @param scores of all tokens, before softmax */
export function drawToken(
  scores: Float32Array,
  excluded: ExcludedTokens,
  allowed: AllowedTokens,
  { temperature, random }: Sampling,
): TokenChoice {
  const ofAll = logSumExp(scores);
  const left = allowedScores(scores, excluded, allowed);
  const scaled = left.map((value) => value / temperature);
  const total = logSumExp(scaled);
  let above = random.uniform();
  let id = scaled.findIndex((value) => (above -= Math.exp(value - total)) < 0);
  if (id < 0) id = bestIndex(scaled);
  const score = scores[id] as number;
  return { id, logProbability: score - ofAll, allowedLogProbability: score - logSumExp(left) };
}

/** The scores, minus infinity for tokens that may not come. */
function allowedScores(scores: Float32Array, { bias }: ExcludedTokens, { without, forbidden, together }: AllowedTokens): Float32Array {
  const added = bias.rows(without, without + 1).toArray();
  const left = scores.map((score, id) => score + (added[id] as number));
  for (const [begin, end] of forbidden) left.fill(-Infinity, begin, end);
  if (together === undefined) return left;
  const before = left.subarray(0, together);
  if (logSumExp(left.subarray(together)) > (before[bestIndex(before)] ?? -Infinity)) before.fill(-Infinity);
  return left;
}
