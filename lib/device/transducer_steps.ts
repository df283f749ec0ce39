/** Steps of greedy decoding of transducers, as they come from the GPU: a block of them for all utterances at a time. */

/** What was best at one step: the blank or a token, and the network's duration, before it is made to go on. */
export interface TransducerStep {
  readonly id: number;
  readonly duration: number;
  /** Natural logarithm of the id's probability. */
  readonly logProbability: number;
}

/** An even number, as steps write the states of one another: the next block begins where this one began. */
export const stepsPerBlock = 8;
/** Of a step: id, duration, logarithm of the id's probability, row of the frame. */
export const stepColumns = 4;

/**
 * Tells of the steps of a block, (steps, utterances, columns), in order; an id of -1 is that of an utterance without frames.
 * @param ends of each utterance, the row behind its last frame
 * @returns the most frames that an utterance may have left, that of its last step included; 0 when all have ended
 */
export function tellSteps(steps: Float32Array, ends: readonly number[], onStep: (utterance: number, step: TransducerStep) => void): number {
  let left = 0;
  for (let row = 0; row < stepsPerBlock * ends.length; row++) {
    const utterance = row % ends.length;
    const [id, duration, logProbability, frame] = steps.subarray(stepColumns * row) as unknown as [number, number, number, number];
    if (id < 0) continue;
    onStep(utterance, { id, duration, logProbability });
    const isLast = row >= (stepsPerBlock - 1) * ends.length;
    if (isLast) left = Math.max(left, (ends[utterance] as number) - frame);
  }
  return left;
}
