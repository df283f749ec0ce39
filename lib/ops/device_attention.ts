/** Softmax attention of training on the GPU. */
import { deviceRotateHeads } from "../device/attention.js";
import type { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { queryBiasOnGpu, sequencesOnGpu } from "../device/placement.js";
import {
  deviceAttentionBackward,
  deviceRelativeAttentionBackward,
  deviceTrainingAttention,
  deviceTrainingRelativeAttention,
} from "../device/training_attention.js";
import { UsmLiteError } from "../errors.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { AttentionOptions } from "./attention.js";
import { accumulateParts } from "./gradients.js";
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
  const rotates = ropeTheta !== undefined;
  const [queries, keys] = rotates ? [query.clone(), key.clone()] : [query, key];
  if (rotates) deviceRotateHeads(queries, sequences, { heads, theta: ropeTheta, key: keys });
  const options = { heads, scale, dropout };
  const { out, logSum } = deviceTrainingAttention(queries, keys, value, sequences, options);
  return recordStep(out, [query, key, value], (gradient, tape) => {
    const gradients = deviceAttentionBackward(queries, keys, value, out, logSum, onGpu(gradient, "gradient"), sequences, options);
    if (rotates) deviceRotateHeads(gradients.query, sequences, { heads, theta: ropeTheta, key: gradients.key, inverse: true });
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

/** What {@link relativeAttention} takes. */
export interface RelativeAttentionInputs {
  readonly query: DeviceTensor;
  readonly key: Tensor;
  readonly value: Tensor;
  readonly positions: Tensor;
  readonly contentBias: Tensor;
  readonly positionBias: Tensor;
}

/** {@link relativeAttention}, differentiable. */
export function trainedRelativeAttention(
  inputs: RelativeAttentionInputs,
  offsets: SequenceOffsets,
  { heads, scale }: { heads: number; scale: number },
): Tensor {
  const { query, contentBias, positionBias } = inputs;
  const [key, value] = [onGpu(inputs.key, "key"), onGpu(inputs.value, "value")];
  const sequences = sequencesOnGpu(offsets);
  const relative = {
    positions: onGpu(inputs.positions, "positions"),
    contentBias: queryBiasOnGpu(contentBias),
    positionBias: queryBiasOnGpu(positionBias),
  };
  const options = { heads, scale, relative };
  const { out, logSum } = deviceTrainingRelativeAttention(query, key, value, sequences, options);
  return recordStep(out, Object.values(inputs) as Tensor[], (gradient, tape) => {
    const gradients = deviceRelativeAttentionBackward(query, key, value, out, logSum, onGpu(gradient, "gradient"), sequences, options);
    accumulateParts(tape, inputs, {
      ...gradients,
      contentBias: gradients.contentBias.reshape(contentBias.shape),
      positionBias: gradients.positionBias.reshape(positionBias.shape),
    });
  });
}
