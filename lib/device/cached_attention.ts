/** Attention of a decoder on the GPU: over its own past, or over what the encoder said. */
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface CachedAttentionBindings {
  deviceCachedAttention(
    query: DeviceTensorHandle,
    key: DeviceTensorHandle,
    value: DeviceTensorHandle,
    queries: DeviceSequencesHandle,
    keys: DeviceSequencesHandle,
    heads: number,
    scale: number,
    causal: boolean,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceExtendCache(
    keys: DeviceTensorHandle,
    values: DeviceTensorHandle,
    cachedKeys: DeviceTensorHandle,
    cachedValues: DeviceTensorHandle,
    queries: DeviceSequencesHandle,
    places: DeviceSequencesHandle,
    stream?: StreamHandle,
  ): void;
}

const native = (): CachedAttentionBindings => gpuAddon<CachedAttentionBindings>();

/** Keys and values (rows, heads * headDimension), 16-bit floats, and which rows each sequence has. */
export interface DeviceAttentionCache {
  readonly keys: DeviceTensor;
  readonly values: DeviceTensor;
  readonly sequences: DeviceSequences;
}

/**
 * What {@link cachedAttention} computes; not differentiable.
 * @param query (queries, heads * headDimension), of the type of keys and values
 * @param queries where those of each sequence lie
 * @throws UsmLiteError INVALID_ARGUMENT when shapes, types or rows do not fit; UNSUPPORTED_SPEC for heads of more than 256 values
 */
export function deviceCachedAttention(
  query: DeviceTensor,
  queries: DeviceSequences,
  { keys, values, sequences }: DeviceAttentionCache,
  { heads, causal, scale }: { heads: number; causal: boolean; scale: number },
): DeviceTensor {
  return new DeviceTensor(
    native().deviceCachedAttention(query.handle, keys.handle, values.handle, queries.handle, sequences.handle, heads, scale, causal),
  );
}

/**
 * Puts the keys and values of new tokens into a cache: those of a sequence become its last rows.
 * @param keys (tokens, heads * headDimension)
 * @param values the same
 * @param tokens where those of each sequence lie
 * @throws UsmLiteError INVALID_ARGUMENT when shapes, types or rows do not fit
 */
export function deviceExtendCache(cache: DeviceAttentionCache, tokens: DeviceSequences, keys: DeviceTensor, values: DeviceTensor): void {
  native().deviceExtendCache(keys.handle, values.handle, cache.keys.handle, cache.values.handle, tokens.handle, cache.sequences.handle);
}
