/** Checks of what a decoder is given. */
import { UsmLiteError } from "../errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { LogProbabilities } from "./hypothesis.js";

/** @throws UsmLiteError INVALID_ARGUMENT when the sizes do not fit each other or the tokenizer */
export function checkLogProbabilities(input: LogProbabilities, tokenizer: Tokenizer): void {
  if (input.tokens !== tokenizer.size) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `the log-probabilities are over ${input.tokens} tokens but the tokenizer has ${tokenizer.size}; use the tokenizer of the model`,
    );
  }
  if (input.values.length !== input.frames * input.tokens) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `(${input.frames}, ${input.tokens}) log-probabilities are ${input.frames * input.tokens} numbers, got ${input.values.length}`,
    );
  }
}

/** ln(e^a + e^b). */
export function logAdd(a: number, b: number): number {
  const larger = a > b ? a : b;
  const smaller = a > b ? b : a;
  return smaller === -Infinity ? larger : larger + Math.log1p(Math.exp(smaller - larger));
}
