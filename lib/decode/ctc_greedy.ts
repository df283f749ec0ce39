/** The most probable token of every frame, repeats merged and blanks removed (Graves et al. 2006, best path decoding). */
import type { Tokenizer } from "../text/tokenizer.js";
import {
  hypothesisOf,
  type DecodedToken,
  type FrameTimes,
  type Hypothesis,
  type LogProbabilities,
} from "./hypothesis.js";
import { checkLogProbabilities } from "./log_probabilities.js";

/** @throws UsmLiteError INVALID_ARGUMENT when the sizes do not fit the tokenizer */
export function ctcGreedy(input: LogProbabilities, tokenizer: Tokenizer, times: FrameTimes): Hypothesis {
  checkLogProbabilities(input, tokenizer);
  const { values, frames, tokens: width } = input;
  const tokens: { -readonly [Key in keyof DecodedToken]: DecodedToken[Key] }[] = [];
  let previous = tokenizer.blankId;
  let logProbability = 0;
  for (let frame = 0; frame < frames; frame++) {
    const row = frame * width;
    let best = 0;
    for (let id = 1; id < width; id++) {
      if ((values[row + id] as number) > (values[row + best] as number)) best = id;
    }
    const score = values[row + best] as number;
    logProbability += score;
    if (best !== tokenizer.blankId) {
      const open = tokens.at(-1);
      if (best === previous && open) {
        open.endFrame = frame + 1;
        open.confidence = Math.max(open.confidence, Math.exp(score));
      } else {
        tokens.push({ id: best, firstFrame: frame, endFrame: frame + 1, confidence: Math.exp(score) });
      }
    }
    previous = best;
  }
  return hypothesisOf(tokens, logProbability, tokenizer, times);
}
