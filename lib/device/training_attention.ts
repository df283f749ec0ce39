/** Attention in training on the GPU, and its gradients: pure functions, as those of gradient_operations.ts. */
import type { DropoutOptions } from "../ops/activation.js";
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { relativeOperands, type DeviceRelativePositions, type RelativeOperands } from "./attention.js";
import { gpuAddon } from "./gpu.js";

interface TrainingAttentionBindings {
  deviceTrainingAttention(
    query: DeviceTensorHandle,
    key: DeviceTensorHandle,
    value: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    keys: DeviceSequencesHandle | undefined,
    causal: boolean,
    heads: number,
    scale: number,
    probability: number,
    seed: number,
    stream?: StreamHandle,
  ): [out: DeviceTensorHandle, logSum: DeviceTensorHandle];
  deviceTrainingRelativeAttention(
    query: DeviceTensorHandle,
    key: DeviceTensorHandle,
    value: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    heads: number,
    scale: number,
    ...relative: [...RelativeOperands, stream?: StreamHandle]
  ): [out: DeviceTensorHandle, logSum: DeviceTensorHandle];
  deviceAttentionBackward(
    query: DeviceTensorHandle,
    key: DeviceTensorHandle,
    value: DeviceTensorHandle,
    out: DeviceTensorHandle,
    logSum: DeviceTensorHandle,
    gradient: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    keys: DeviceSequencesHandle | undefined,
    causal: boolean,
    heads: number,
    scale: number,
    probability: number,
    seed: number,
    stream?: StreamHandle,
  ): [query: DeviceTensorHandle, key: DeviceTensorHandle, value: DeviceTensorHandle];
  deviceRelativeAttentionBackward(
    query: DeviceTensorHandle,
    key: DeviceTensorHandle,
    value: DeviceTensorHandle,
    out: DeviceTensorHandle,
    logSum: DeviceTensorHandle,
    gradient: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    heads: number,
    scale: number,
    ...relative: [...RelativeOperands, stream?: StreamHandle]
  ): DeviceTensorHandle[];
}

const native = (): TrainingAttentionBindings => gpuAddon<TrainingAttentionBindings>();

export interface DeviceTrainingAttentionOptions {
  heads: number;
  /** multiplies the scores; default headDimension^-0.5 */
  scale?: number | undefined;
  /** of the probabilities, with the mask that `attention` of the CPU has */
  dropout?: DropoutOptions | undefined;
  /** Where the keys and values of each sequence lie; absent: where its queries do. A sequence that has queries needs keys. */
  keys?: DeviceSequences | undefined;
  /** The last query of a sequence sees all of its keys, the one before it all but the last, and so on. Default: all see all. */
  causal?: boolean | undefined;
  stream?: DeviceStream | undefined;
}

export interface DeviceTrainingRelativeAttentionOptions extends Omit<DeviceTrainingAttentionOptions, "dropout" | "keys" | "causal"> {
  relative: DeviceRelativePositions;
}

const scaleOf = (query: DeviceTensor, { heads, scale }: { heads: number; scale?: number | undefined }): number =>
  scale ?? ((query.shape[1] ?? heads) / heads) ** -0.5;

/**
 * `dropout(softmax(scale * q k^T)) v` for each head within each sequence, as {@link deviceAttention}.
 * @param query (frames, heads * headDimension); headDimension a multiple of 8 up to 128
 * @param key (frames, keyHeads * headDimension), as many rows as `keys` have; several heads of the query share a head where those are fewer
 * @param value like key
 * @returns `out` like query; `logSum` float32 (heads, frames), log(sum(exp(scores))), for {@link deviceAttentionBackward}
 */
export function deviceTrainingAttention(
  query: DeviceTensor,
  key: DeviceTensor,
  value: DeviceTensor,
  sequences: DeviceSequences,
  options: DeviceTrainingAttentionOptions,
): { out: DeviceTensor; logSum: DeviceTensor } {
  const { heads, dropout, keys, causal = false, stream } = options;
  const [out, logSum] = native().deviceTrainingAttention(
    query.handle,
    key.handle,
    value.handle,
    sequences.handle,
    keys?.handle,
    causal,
    heads,
    scaleOf(query, options),
    dropout?.probability ?? 0,
    dropout?.seed ?? 0,
    stream?.handle,
  );
  return { out: new DeviceTensor(out), logSum: new DeviceTensor(logSum) };
}

/**
 * Gradients of {@link deviceTrainingAttention}; scores are made again and never stored (Dao et al. 2022).
 * @param gradient like query, of `out`
 * @param options what the forward pass was given
 */
export function deviceAttentionBackward(
  query: DeviceTensor,
  key: DeviceTensor,
  value: DeviceTensor,
  out: DeviceTensor,
  logSum: DeviceTensor,
  gradient: DeviceTensor,
  sequences: DeviceSequences,
  options: DeviceTrainingAttentionOptions,
): { query: DeviceTensor; key: DeviceTensor; value: DeviceTensor } {
  const { heads, dropout, keys, causal = false, stream } = options;
  const handles = native().deviceAttentionBackward(
    query.handle,
    key.handle,
    value.handle,
    out.handle,
    logSum.handle,
    gradient.handle,
    sequences.handle,
    keys?.handle,
    causal,
    heads,
    scaleOf(query, options),
    dropout?.probability ?? 0,
    dropout?.seed ?? 0,
    stream?.handle,
  );
  return { query: new DeviceTensor(handles[0]), key: new DeviceTensor(handles[1]), value: new DeviceTensor(handles[2]) };
}

/**
 * Attention with relative positions (Transformer-XL, Dai et al. 2019), as {@link deviceAttention} has it.
 * @param query (frames, heads * headDimension); headDimension a multiple of 8 up to 128
 * @param key (frames, keyHeads * headDimension)
 * @param value like key
 * @returns `out` like query; `logSum` float32 (heads, frames), for {@link deviceRelativeAttentionBackward}
 */
export function deviceTrainingRelativeAttention(
  query: DeviceTensor,
  key: DeviceTensor,
  value: DeviceTensor,
  sequences: DeviceSequences,
  options: DeviceTrainingRelativeAttentionOptions,
): { out: DeviceTensor; logSum: DeviceTensor } {
  const { heads, relative, stream } = options;
  const [out, logSum] = native().deviceTrainingRelativeAttention(
    query.handle,
    key.handle,
    value.handle,
    sequences.handle,
    heads,
    scaleOf(query, options),
    ...relativeOperands(relative, sequences),
    stream?.handle,
  );
  return { out: new DeviceTensor(out), logSum: new DeviceTensor(logSum) };
}

/** Gradients of {@link deviceTrainingRelativeAttention}. */
export interface DeviceRelativeAttentionGradients {
  query: DeviceTensor;
  key: DeviceTensor;
  value: DeviceTensor;
  /** like the positions */
  positions: DeviceTensor;
  /** float32 (heads * headDimension) */
  contentBias: DeviceTensor;
  /** float32 (heads * headDimension) */
  positionBias: DeviceTensor;
}

/**
 * Gradients of {@link deviceTrainingRelativeAttention}. While it runs, 16-bit probabilities and gradients of scores of all pairs of frames
 * are kept: 4 * heads * frames * (frames of the longest sequence) bytes, or over a window 4 * heads * frames * (left + right + 96).
 * @param gradient like query, of `out`
 * @param options what the forward pass was given
 */
export function deviceRelativeAttentionBackward(
  query: DeviceTensor,
  key: DeviceTensor,
  value: DeviceTensor,
  out: DeviceTensor,
  logSum: DeviceTensor,
  gradient: DeviceTensor,
  sequences: DeviceSequences,
  options: DeviceTrainingRelativeAttentionOptions,
): DeviceRelativeAttentionGradients {
  const { heads, relative, stream } = options;
  const handles = native().deviceRelativeAttentionBackward(
    query.handle,
    key.handle,
    value.handle,
    out.handle,
    logSum.handle,
    gradient.handle,
    sequences.handle,
    heads,
    scaleOf(query, options),
    ...relativeOperands(relative, sequences),
    stream?.handle,
  );
  const [ofQuery, ofKey, ofValue, positions, contentBias, positionBias] = handles.map((handle) => new DeviceTensor(handle)) as [
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
  ];
  return { query: ofQuery, key: ofKey, value: ofValue, positions, contentBias, positionBias };
}
