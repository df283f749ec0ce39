/** Softmax attention of training on the GPU. */
import { deviceRotateHeads } from "../device/encoder_operations.js";
import type { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import { deviceAttentionBackward, deviceTrainingAttention } from "../device/training_attention.js";
import { UsmLiteError } from "../errors.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { AttentionOptions } from "./attention.js";
import { recordStep } from "./tape.js";

/**
 * {@link attention}, differentiable, with dropout.
 * @throws UsmLiteError UNSUPPORTED_MODEL when heads share keys
 */
export function trainedAttention(
  query: DeviceTensor,
  key: DeviceTensor,
  value: DeviceTensor,
  offsets: SequenceOffsets,
  { heads, keyValueHeads = heads, ropeTheta, scale, dropout }: AttentionOptions,
): Tensor {
  if (keyValueHeads !== heads) {
    throw new UsmLiteError("UNSUPPORTED_MODEL", `attention on the GPU needs a key for each of ${heads} heads, not ${keyValueHeads}`);
  }
  const sequences = sequencesOnGpu(offsets);
  const rotated = (x: DeviceTensor): DeviceTensor => {
    if (ropeTheta === undefined) return x;
    const copy = x.clone();
    deviceRotateHeads(copy, sequences, { heads, theta: ropeTheta });
    return copy;
  };
  const [queries, keys] = [rotated(query), rotated(key)];
  const options = { heads, scale, dropout };
  const { out, logSum } = deviceTrainingAttention(queries, keys, value, sequences, options);
  return recordStep(out, [query, key, value], (gradient, tape) => {
    const gradients = deviceAttentionBackward(queries, keys, value, out, logSum, onGpu(gradient, "gradient"), sequences, options);
    if (ropeTheta !== undefined) {
      for (const x of [gradients.query, gradients.key]) deviceRotateHeads(x, sequences, { heads, theta: ropeTheta, inverse: true });
    }
    tape.accumulate(query, gradients.query);
    tape.accumulate(key, gradients.key);
    tape.accumulate(value, gradients.value);
  });
}
