/**
 * Attention of an encoder on the GPU: rotary positions, and softmax over each sequence. Products are of 16-bit floats, everything else is in float32;
 * otherwise as encoder_operations.ts.
 */
import { isBatchInvariant } from "./batch_invariance.js";
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface AttentionBindings {
  deviceRotateHeads(
    query: DeviceTensorHandle,
    key: DeviceTensorHandle | undefined,
    heads: number,
    theta: number,
    inverse: boolean,
    sequences: DeviceSequencesHandle,
    stream?: StreamHandle,
  ): void;
  deviceAttention(
    query: DeviceTensorHandle,
    key: DeviceTensorHandle,
    value: DeviceTensorHandle,
    heads: number,
    scale: number,
    sequences: DeviceSequencesHandle,
    batchInvariant: boolean,
    stream: StreamHandle | undefined,
    ...relative: RelativeOperands | []
  ): DeviceTensorHandle;
}

const native = (): AttentionBindings => gpuAddon<AttentionBindings>();

/** What {@link deviceRotateHeads} is told. */
export interface DeviceRotationOptions {
  heads: number;
  /** Base of the frequencies, 10000 as a rule. */
  theta: number;
  /** Of the queries' type and shape. */
  key?: DeviceTensor | undefined;
  inverse?: boolean;
  stream?: DeviceStream | undefined;
}

/**
 * Rotary position embedding (Su et al. 2021) of queries, and of keys in the same launch, in place: positions from 0 in each sequence, the
 * two halves of a head are the pairs. `inverse` turns them back, which takes a gradient through the embedding.
 * @param query (frames, heads * headDimension)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * deviceRotateHeads(query, sequences, { heads: 8, theta: 10_000, key });
 */
export function deviceRotateHeads(
  query: DeviceTensor,
  sequences: DeviceSequences,
  { heads, theta, key, inverse = false, stream }: DeviceRotationOptions,
): void {
  native().deviceRotateHeads(query.handle, key?.handle, heads, theta, inverse, sequences.handle, stream?.handle);
}

/** Relative positions (Transformer-XL, Dai et al. 2019): scores are `(q + u) k + (q + v) p`. All of the queries' type. */
export interface DeviceRelativePositions {
  /** p, (distances, heads * headDimension): row n is for keys `origin - n` frames before a query. */
  positions: DeviceTensor;
  /** Distance that the first row of `positions` is for. Default: frames of the longest sequence less one, and the last row is for as many after. */
  origin?: number | undefined;
  /** u (heads * headDimension) */
  contentBias: DeviceTensor;
  /** v (heads * headDimension) */
  positionBias: DeviceTensor;
  /** Frames before and after a frame that it sees. Absent: all of its sequence. */
  context?: readonly [left: number, right: number] | undefined;
}

/** {@link DeviceRelativePositions} as kernels are told; -1: all frames. */
export type RelativeOperands = [
  positions: DeviceTensorHandle,
  contentBias: DeviceTensorHandle,
  positionBias: DeviceTensorHandle,
  origin: number,
  left: number,
  right: number,
];

export function relativeOperands(
  { positions, origin, contentBias, positionBias, context: [left, right] = [-1, -1] }: DeviceRelativePositions,
  sequences: DeviceSequences,
): RelativeOperands {
  return [positions.handle, contentBias.handle, positionBias.handle, origin ?? Math.max(0, sequences.longest - 1), left, right];
}

/** Heads, scale and positions of {@link deviceAttention}. */
export interface DeviceAttentionOptions {
  heads: number;
  /** multiplies the scores; default headDimension^-0.5 */
  scale?: number;
  relative?: DeviceRelativePositions;
  /**
   * Whether a sequence's result must be the same bits however many sequences there are and however long they are; by default what the pass under
   * way asks for, and false outside of one: where there are few frames, their number then decides how the sums over keys are divided. The same
   * call gives the same bits in any case.
   */
  batchInvariant?: boolean;
  stream?: DeviceStream | undefined;
}

/**
 * `softmax(scale * scores) v` for each head within each sequence (Vaswani et al. 2017); scores are never stored (Dao et al.
 * 2022). What the other sequences hold does not matter for a sequence's result.
 * @param query (frames, heads * headDimension); headDimension a multiple of 8 up to 160
 * @param key (frames, keyHeads * headDimension): as many heads of the query, or several of them, share each of its heads
 * @param value like key
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const heard = deviceAttention(query, key, value, sequences, { heads: 8 }); // (frames, hidden)
 */
export function deviceAttention(
  query: DeviceTensor,
  key: DeviceTensor,
  value: DeviceTensor,
  sequences: DeviceSequences,
  { heads, scale, relative, batchInvariant = isBatchInvariant(), stream }: DeviceAttentionOptions,
): DeviceTensor {
  return new DeviceTensor(
    native().deviceAttention(
      query.handle,
      key.handle,
      value.handle,
      heads,
      scale ?? ((query.shape[1] ?? heads) / heads) ** -0.5,
      sequences.handle,
      batchInvariant,
      stream?.handle,
      ...(relative ? relativeOperands(relative, sequences) : ([] as [])),
    ),
  );
}
