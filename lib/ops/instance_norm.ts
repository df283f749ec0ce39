/** Normalization of each channel over the frames of its sequence. */
import { DeviceTensor } from "../device/device_tensor.js";
import { instanceNormOnGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface InstanceNormBindings {
  instanceNorm(x: TensorHandle, offsets: TensorHandle, weight: TensorHandle, bias: TensorHandle, epsilon: number): TensorHandle;
}

const native = addon as InstanceNormBindings;

/**
 * `(x - mean) / sqrt(variance + epsilon) * weight + bias` per channel and sequence, with the biased variance: group normalization
 * (Wu, He 2018) with a channel in each group. Not differentiable.
 * @param x (frames, channels)
 * @param weight (channels)
 * @param bias (channels)
 * @returns (frames, channels)
 */
export function instanceNorm(x: Tensor, weight: Tensor, bias: Tensor, offsets: SequenceOffsets, epsilon: number): Tensor {
  if (x instanceof DeviceTensor) return instanceNormOnGpu(x, weight, bias, offsets, epsilon);
  return new Tensor(native.instanceNorm(x.handle, offsets.tensor.handle, weight.handle, bias.handle, epsilon));
}
