/** What the loss of a transducer knows of a batch before it computes. */
import type { TransducerLossOptions } from "./transducer_loss.js";

/** What each sequence's loss is multiplied by. */
export function sequenceWeights(targets: readonly (readonly number[])[], reduction: TransducerLossOptions["reduction"]): number[] {
  const labels = Math.max(
    1,
    targets.reduce((sum, { length }) => sum + length, 0),
  );
  return targets.map(({ length }) => {
    if (reduction === "mean") return 1 / (Math.max(length, 1) * targets.length);
    return reduction === "mean-volume" ? 1 / labels : 1;
  });
}

/**
 * Whether a path says so many labels in exactly so many frames, the last arc being a blank.
 * @param durations frames that labels may take, and blanks where above 0; none: a blank takes one frame, a label none
 */
export function hasPath(frames: number, labels: number, durations: readonly number[]): boolean {
  const silent = durations.length > 0 ? durations.filter((duration) => duration > 0) : [1];
  const spoken = durations.length > 0 ? durations : [0];
  if (frames === 0 || silent.length === 0) return false;
  if (spoken.includes(0) && silent.includes(1)) return true;
  // Blanks may all come last: frames that the labels take, then those that are reached with blanks behind them.
  let said = [true, ...new Array<boolean>(frames).fill(false)];
  for (let label = 0; label < labels; label++) said = said.map((_, frame) => spoken.some((duration) => said[frame - duration] === true));
  const reached = new Array<boolean>(frames + 1).fill(false);
  for (let frame = 1; frame <= frames; frame++) {
    reached[frame] = silent.some((duration) => said[frame - duration] === true || reached[frame - duration] === true);
  }
  return reached[frames] as boolean;
}
