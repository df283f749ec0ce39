/** Softmax attention of training on the GPU. */
import type { DeviceTensor } from "../device/device_tensor.js";
import { onGpu, placedPositions, rotateOnGpu, type RelativePositionsOnGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import {
  deviceAttentionBackward,
  deviceRelativeAttentionBackward,
  deviceTrainingAttention,
  deviceTrainingRelativeAttention,
} from "../device/training_attention.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { AttentionOptions } from "./attention.js";
import { accumulateParts } from "./gradients.js";
import { recordStep } from "./tape.js";

/** {@link attention}, differentiable, with dropout. */
export function trainedAttention(
  query: DeviceTensor,
  key: DeviceTensor,
  value: DeviceTensor,
  offsets: SequenceOffsets,
  { heads, keyValueHeads = heads, ropeTheta, scale, dropout }: AttentionOptions,
): Tensor {
  const sequences = sequencesOnGpu(offsets);
  const rotates = ropeTheta !== undefined;
  const [queries, keys] = rotates ? [query.clone(), key.clone()] : [query, key];
  if (rotates) rotateOnGpu(queries, keys, sequences, { heads, keyValueHeads, theta: ropeTheta });
  const options = { heads, scale, dropout };
  const { out, logSum } = deviceTrainingAttention(queries, keys, value, sequences, options);
  return recordStep(out, [query, key, value], (gradient, tape) => {
    const gradients = deviceAttentionBackward(queries, keys, value, out, logSum, onGpu(gradient, "gradient"), sequences, options);
    if (rotates) rotateOnGpu(gradients.query, gradients.key, sequences, { heads, keyValueHeads, theta: ropeTheta, inverse: true });
    tape.accumulate(query, gradients.query);
    tape.accumulate(key, gradients.key);
    tape.accumulate(value, gradients.value);
  });
}

/**
 * {@link cachedAttention}, differentiable.
 * @param places where keys and values of each sequence lie
 */
export function trainedCachedAttention(
  query: DeviceTensor,
  key: DeviceTensor,
  value: DeviceTensor,
  offsets: SequenceOffsets,
  places: SequenceOffsets,
  { heads, causal, scale }: { heads: number; causal: boolean; scale: number },
): Tensor {
  const sequences = sequencesOnGpu(offsets);
  const options = { heads, causal, scale, keys: sequencesOnGpu(places) };
  const { out, logSum } = deviceTrainingAttention(query, key, value, sequences, options);
  const inputs = { query, key, value };
  return recordStep(out, Object.values(inputs), (gradient, tape) => {
    accumulateParts(tape, inputs, deviceAttentionBackward(query, key, value, out, logSum, onGpu(gradient, "gradient"), sequences, options));
  });
}

/** {@link relativeAttention}, differentiable. */
export function trainedRelativeAttention(
  query: DeviceTensor,
  keyOperand: Tensor,
  valueOperand: Tensor,
  offsets: SequenceOffsets,
  { heads, scale, relative }: { heads: number; scale: number; relative: RelativePositionsOnGpu },
): Tensor {
  const [key, value] = [onGpu(keyOperand, "key"), onGpu(valueOperand, "value")];
  const sequences = sequencesOnGpu(offsets);
  const options = { heads, scale, relative: placedPositions(relative) };
  const { out, logSum } = deviceTrainingRelativeAttention(query, key, value, sequences, options);
  const { positions, contentBias, positionBias } = relative;
  const inputs = { query, key, value, positions, contentBias, positionBias };
  return recordStep(out, Object.values(inputs), (gradient, tape) => {
    const gradients = deviceRelativeAttentionBackward(query, key, value, out, logSum, onGpu(gradient, "gradient"), sequences, options);
    accumulateParts(tape, inputs, {
      ...gradients,
      contentBias: gradients.contentBias.reshape(contentBias.shape),
      positionBias: gradients.positionBias.reshape(positionBias.shape),
    });
  });
}
