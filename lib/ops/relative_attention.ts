/** Self-attention with relative positions (Dai et al. 2019, Transformer-XL), over whole sequences or a window. */
import { DeviceTensor } from "../device/device_tensor.js";
import { relativeAttentionOnGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { trainedRelativeAttention } from "./device_attention.js";
import { accumulateAll } from "./gradients.js";
import { isRecording, recordStep } from "./tape.js";

type Operands = [
  query: TensorHandle,
  key: TensorHandle,
  value: TensorHandle,
  offsets: TensorHandle,
  heads: number,
  keyValueHeads: number,
  scale: number,
  positions: TensorHandle,
  origin: number,
  contentBias: TensorHandle,
  positionBias: TensorHandle,
  left: number,
  right: number,
];

interface RelativeAttentionBindings {
  relativeAttention(...operands: [...Operands, inIntegers: boolean]): TensorHandle;
  relativeAttentionBackward(...operands: [...Operands, out: TensorHandle, gradient: TensorHandle]): TensorHandle[];
}

const native = addon as RelativeAttentionBindings;

/** Keys for the distances between a frame and the frames it sees. */
export interface RelativePositions {
  /** (distances, heads * headDimension): row n is for the distance `origin - n`, counted from the frame seen to the frame itself. */
  readonly keys: Tensor;
  readonly origin: number;
}

export interface RelativeAttentionOptions {
  heads: number;
  /** Default: as many as heads. */
  keyValueHeads?: number;
  /** (heads * headDimension) or (heads, headDimension), added to queries before they meet keys. */
  contentBias: Tensor;
  /** (heads * headDimension) or (heads, headDimension), added to queries before they meet positions. */
  positionBias: Tensor;
  /** Frames before and after a frame that it sees. Absent: all of its sequence. */
  context?: readonly [left: number, right: number] | undefined;
  /** multiplies the scores; default headDimension^-0.5 */
  scale?: number;
  /** As that of {@link AttentionOptions}; positions are rounded as keys are. */
  inIntegers?: boolean;
}

/**
 * `softmax(scale * ((q_i + u) k_j + (q_i + v) p(i - j))) v_j` for each head within each sequence. Scores are made block by block
 * and never stored; with `context` only blocks inside the window are made, so time grows with the number of frames. The gradient
 * needs the scores of one head and sequence per thread, all pairs of frames.
 * @param query (frames, heads * headDimension)
 * @param key (frames, keyValueHeads * headDimension)
 * @param value (frames, keyValueHeads * headDimension)
 * @returns (frames, heads * headDimension)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit or positions for some distance are missing
 */
export function relativeAttention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  positions: RelativePositions,
  offsets: SequenceOffsets,
  { heads, keyValueHeads = heads, contentBias, positionBias, context, scale, inIntegers = false }: RelativeAttentionOptions,
): Tensor {
  const factor = scale ?? (query.dim(-1) / heads) ** -0.5;
  if (query instanceof DeviceTensor) {
    const attend = isRecording([query, key, value, positions.keys, contentBias, positionBias])
      ? trainedRelativeAttention
      : relativeAttentionOnGpu;
    const relative = { positions: positions.keys, origin: positions.origin, contentBias, positionBias, context };
    return attend(query, key, value, offsets, { heads, scale: factor, relative });
  }
  const [left, right] = context ?? [-1, -1];
  const operands: Operands = [
    query.handle,
    key.handle,
    value.handle,
    offsets.tensor.handle,
    heads,
    keyValueHeads,
    factor,
    positions.keys.handle,
    positions.origin,
    contentBias.handle,
    positionBias.handle,
    left,
    right,
  ];
  const exact = inIntegers && query.dim(-1) <= 512 * heads;
  const out = new Tensor(native.relativeAttention(...operands, exact));
  const inputs = [query, key, value, positions.keys, contentBias, positionBias];
  return recordStep(out, inputs, (gradient, tape) => {
    accumulateAll(tape, inputs, native.relativeAttentionBackward(...operands, out.handle, gradient.handle));
  });
}
