/** What a network says of some frames, wherever that is. */
import type { DeviceTensor } from "../device/device_tensor.js";
import type { LogProbabilities } from "./hypothesis.js";

/** Log-probabilities, or, of a transducer, what its joint network takes: floats, or a tensor that stays on the GPU. */
export interface FrameRows extends LogProbabilities {
  /** (frames, tokens), in place of `values`, which are empty then. Whoever is given it as a result disposes of it. */
  readonly onGpu?: DeviceTensor | undefined;
}

/** Rows [begin, end) in the same memory: on the GPU a tensor of their own, which stays valid without the others. */
export function frameRows({ values, onGpu, tokens }: FrameRows, begin: number, end: number): FrameRows {
  const frames = end - begin;
  if (onGpu) return { values, onGpu: onGpu.rows(begin, end), frames, tokens };
  return { values: values.subarray(begin * tokens, end * tokens), frames, tokens };
}
