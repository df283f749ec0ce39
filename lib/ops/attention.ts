/** Softmax attention within each sequence of a packed batch. */
import { DeviceTensor } from "../device/device_tensor.js";
import { attentionOnGpu, onGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import type { DropoutOptions } from "./activation.js";
import { trainedAttention } from "./device_attention.js";
import { accumulateAll } from "./gradients.js";
import { isRecording, recordStep } from "./tape.js";

type Operands = [
  query: TensorHandle,
  key: TensorHandle,
  value: TensorHandle,
  offsets: TensorHandle,
  heads: number,
  keyValueHeads: number,
  ropeTheta: number | undefined,
  scale: number,
  probability: number,
  seed: number,
];

interface AttentionBindings {
  attention(...operands: [...Operands, wantsLogSum: boolean]): [out: TensorHandle, logSum: TensorHandle | undefined];
  integerAttention: AttentionBindings["attention"];
  attentionBackward(...operands: [...Operands, out: TensorHandle, logSum: TensorHandle, gradient: TensorHandle]): TensorHandle[];
}

const native = addon as AttentionBindings;

/** Heads, scale and masks of {@link attention}. */
export interface AttentionOptions {
  heads: number;
  /** Query head h reads key and value head floor(h * keyValueHeads / heads). Default: as many as heads. */
  keyValueHeads?: number;
  /**
   * Base of the rotary position embedding (Su et al. 2021) applied to queries and keys, positions from 0 in each
   * sequence, with the two halves of a head as the pairs ("rotate half"). Absent: no embedding.
   */
  ropeTheta?: number;
  /** multiplies the scores; default headDimension^-0.5 */
  scale?: number;
  /** of the attention probabilities */
  dropout?: DropoutOptions | undefined;
  /**
   * On the CPU, and without dropout: queries and keys are rounded to 12 bits, values to 11 and probabilities to 13, and multiplied in whole
   * numbers, which is faster. For models whose layers are multiplied in whole numbers, of far fewer bits. Gradients are those of floats, as is
   * attention with more than 512 values in a head, whose sums would not be exact.
   */
  inIntegers?: boolean;
}

/**
 * `softmax(scale * q k^T) v` for each head within each sequence (Vaswani et al. 2017), every frame attending to the
 * whole of its sequence. Scores are made block by block and never stored (Dao et al. 2022), so memory grows with the
 * number of frames, not with its square.
 * @param query (frames, heads * headDimension)
 * @param key (frames, keyValueHeads * headDimension)
 * @param value (frames, keyValueHeads * headDimension)
 * @returns (frames, heads * headDimension)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes, heads or offsets do not fit
 *
 * @example
 * const heard = attention(query, key, value, new SequenceOffsets([120, 75]), { heads: 8, ropeTheta: 10_000 }); // (195, hidden)
 */
export function attention(
  query: Tensor,
  key: Tensor,
  value: Tensor,
  offsets: SequenceOffsets,
  { heads, keyValueHeads = heads, ropeTheta, scale, dropout, inIntegers = false }: AttentionOptions,
): Tensor {
  if (query instanceof DeviceTensor && (dropout || isRecording([query, key, value]))) {
    return trainedAttention(query, onGpu(key, "key"), onGpu(value, "value"), offsets, {
      heads,
      keyValueHeads,
      ...(ropeTheta !== undefined && { ropeTheta }),
      ...(scale !== undefined && { scale }),
      dropout,
    });
  }
  if (query instanceof DeviceTensor) return attentionOnGpu(query, key, value, offsets, { heads, keyValueHeads, ropeTheta, scale });
  const recording = isRecording([query, key, value]);
  const operands: Operands = [
    query.handle,
    key.handle,
    value.handle,
    offsets.tensor.handle,
    heads,
    keyValueHeads,
    ropeTheta,
    scale ?? (query.dim(-1) / heads) ** -0.5,
    dropout?.probability ?? 0,
    dropout?.seed ?? 0,
  ];
  const exact = inIntegers && !(dropout && dropout.probability > 0) && query.dim(-1) <= 512 * heads;
  const compute = exact ? native.integerAttention : native.attention;
  const [outHandle, logSumHandle] = compute(...operands, recording);
  const out = new Tensor(outHandle);
  if (!logSumHandle) return out;
  const logSum = new Tensor(logSumHandle);
  return recordStep(out, [query, key, value], (gradient, tape) => {
    const gradients = native.attentionBackward(...operands, out.handle, logSum.handle, gradient.handle);
    accumulateAll(tape, [query, key, value], gradients);
  });
}
