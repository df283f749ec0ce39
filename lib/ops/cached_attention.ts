/** Attention of a few queries over keys and values that were computed earlier. */
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

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
}

const native = addon as CachedAttentionBindings;

/** The keys and values of each sequence. */
export interface AttentionCache {
  /** (rows, heads * headDim) */
  readonly keys: Tensor;
  /** (rows, heads * headDim) */
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
  /** multiplies the scores; default headDim^-0.5 */
  scale?: number;
}

/**
 * `softmax(scale * q k^T) v` for each head and query, over the keys of its sequence. Not differentiable.
 * @param query (queries, heads * headDim)
 * @param offsets where the queries of each sequence begin and end; one that has queries needs keys
 * @returns (queries, heads * headDim)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 */
export function cachedAttention(
  query: Tensor,
  offsets: SequenceOffsets,
  cache: AttentionCache,
  { heads, causal = false, scale }: CachedAttentionOptions,
): Tensor {
  return new Tensor(
    native.cachedAttention(
      query.handle,
      cache.keys.handle,
      cache.values.handle,
      offsets.tensor.handle,
      cache.offsets.tensor.handle,
      cache.rows?.handle,
      heads,
      scale ?? (query.dim(-1) / heads) ** -0.5,
      causal,
    ),
  );
}
