/** Scores of the frames of one forward pass, copied from wherever the network computed them. */
import { onCpu } from "../device/placement.js";
import { UsmLiteError } from "../errors.js";
import type { Tensor } from "../tensor/tensor.js";

/** What the network says of all frames of a pass. */
export interface FrameScores {
  /** (frames, tokens) */
  readonly values: Float32Array;
  readonly tokens: number;
}

export const scoresOf = (output: Tensor): FrameScores => ({ tokens: output.dim(1), values: onCpu(output).toArray() });

/** Log-probabilities, checked: one score of a row that is no number, and the row has none. @throws UsmLiteError BAD_CHECKPOINT */
export function checkedScores(scores: FrameScores, folder: string): FrameScores {
  const { values, tokens } = scores;
  for (let first = 0; first < values.length; first += tokens) {
    if (Number.isNaN(values[first])) {
      throw new UsmLiteError(
        "BAD_CHECKPOINT",
        `the scores of frame ${first / tokens} are not numbers: the weights of ${folder} are too large to compute with, or damaged`,
      );
    }
  }
  return scores;
}
