/** Rotary position embedding of rows (Su et al. 2021). */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceRotateHeads } from "../device/attention.js";
import { onGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { recordStep } from "./tape.js";

interface RotaryBindings {
  rotateRows(x: TensorHandle, offsets: TensorHandle, heads: number, theta: number, back: boolean): TensorHandle;
}

const native = addon as RotaryBindings;

/**
 * Turns the pairs of each head (its two halves, "rotate half") by the position of the row in its sequence. Where queries
 * and keys themselves are turned, {@link attention} does so without a copy.
 * @param x (frames, heads * headDimension)
 */
export function rotateRows(x: Tensor, offsets: SequenceOffsets, heads: number, theta: number): Tensor {
  if (x instanceof DeviceTensor) {
    const turnedOnGpu = (from: DeviceTensor, inverse: boolean): DeviceTensor => {
      const copy = from.clone();
      deviceRotateHeads(copy, sequencesOnGpu(offsets), { heads, theta, inverse });
      return copy;
    };
    return recordStep(turnedOnGpu(x, false), [x], (gradient, tape) => tape.accumulate(x, turnedOnGpu(onGpu(gradient, "gradient"), true)));
  }
  const turned = (from: Tensor, back: boolean): Tensor =>
    new Tensor(native.rotateRows(from.handle, offsets.tensor.handle, heads, theta, back));
  return recordStep(turned(x, false), [x], (gradient, tape) => tape.accumulate(x, turned(gradient, true)));
}
