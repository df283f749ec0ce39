/** Attention of queries over other keys and values: those of earlier tokens, or of an encoder's frames. */
import { deviceCachedAttention } from "../device/cached_attention.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { trainedCachedAttention } from "./device_attention.js";
import { accumulateAll } from "./gradients.js";
import { isRecording, recordStep } from "./tape.js";

interface CachedAttentionBindings {
  cachedAttention(
    query: TensorHandle,
    key: TensorHandle,
    value: TensorHandle,
    queryOffsets: TensorHandle,
    keyOffsets: TensorHandle,
    keyRows: TensorHandle | undefined,
    heads: number,
    scale: number,
    causal: boolean,
  ): TensorHandle;
  cachedAttentionBackward(
    query: TensorHandle,
    key: TensorHandle,
    value: TensorHandle,
    queryOffsets: TensorHandle,
    keyOffsets: TensorHandle,
    keyRows: undefined,
    heads: number,
    scale: number,
    causal: boolean,
    gradient: TensorHandle,
  ): TensorHandle[];
}

const native = addon as CachedAttentionBindings;

/** The keys and values of each sequence. */
export interface AttentionCache {
  /** (rows, heads * headDimension) */
  readonly keys: Tensor;
  /** (rows, heads * headDimension) */
  readonly values: Tensor;
  /** Where each sequence begins and ends, in `rows` if there are some, else in the keys themselves. */
  readonly offsets: SequenceOffsets;
  /** int32: rows of keys and values, so that sequences may share them (hypotheses of a beam share their past). */
  readonly rows?: Tensor | undefined;
}

export interface CachedAttentionOptions {
  heads: number;
  /** The last query of a sequence sees all of its keys, the one before it all but the last, and so on. Default: all see all. */
  causal?: boolean;
  /** multiplies the scores; default headDimension^-0.5 */
  scale?: number;
}

/**
 * `softmax(scale * q k^T) v` for each head and query, over the keys of its sequence. Differentiable where the cache has no
 * `rows` of its own.
 * @param query (queries, heads * headDimension)
 * @param offsets where the queries of each sequence begin and end; one that has queries needs keys
 * @returns (queries, heads * headDimension)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 */
export function cachedAttention(
  query: Tensor,
  offsets: SequenceOffsets,
  cache: AttentionCache,
  { heads, causal = false, scale }: CachedAttentionOptions,
): Tensor {
  const factor = scale ?? (query.dim(-1) / heads) ** -0.5;
  const { keys, values, rows } = cache;
  if (query instanceof DeviceTensor) {
    if (!rows && isRecording([query, keys, values])) {
      return trainedCachedAttention(query, onGpu(keys, "keys"), onGpu(values, "values"), offsets, cache.offsets, {
        heads,
        causal,
        scale: factor,
      });
    }
    const placed = { keys: onGpu(keys, "keys"), values: onGpu(values, "values"), sequences: sequencesOnGpu(cache.offsets, rows) };
    return deviceCachedAttention(query, sequencesOnGpu(offsets), placed, { heads, causal, scale: factor });
  }
  const [queries, places] = [offsets.tensor.handle, cache.offsets.tensor.handle];
  const output = new Tensor(
    native.cachedAttention(query.handle, keys.handle, values.handle, queries, places, rows?.handle, heads, factor, causal),
  );
  if (rows) return output;
  return recordStep(output, [query, keys, values], (gradient, tape) => {
    const gradients = native.cachedAttentionBackward(
      query.handle,
      keys.handle,
      values.handle,
      queries,
      places,
      undefined,
      heads,
      factor,
      causal,
      gradient.handle,
    );
    accumulateAll(tape, [query, keys, values], gradients);
  });
}
