/** Copies of rows: embeddings, frames picked from a sequence, zeros around sequences. */
import { addon } from "../native/addon.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface RowCopiesBindings {
  gatherRows(x: TensorHandle, indices: TensorHandle): TensorHandle;
  padSequences(x: TensorHandle, offsets: TensorHandle, before: number, after: number): TensorHandle;
}

const native = addon as RowCopiesBindings;

/**
 * Rows `indices` of `x`, in that order. Not differentiable.
 * @param x (rows, width)
 * @returns (indices, width)
 * @throws UsmLiteError INVALID_ARGUMENT when there is no row of an index
 */
export function gatherRows(x: Tensor, indices: readonly number[] | Int32Array): Tensor {
  using tensor = Tensor.from(Int32Array.from(indices));
  return new Tensor(native.gatherRows(x.handle, tensor.handle));
}

/**
 * Every sequence with rows of zeros around it. Not differentiable.
 * @param x (frames, width)
 * @returns the padded rows and where each sequence, zeros included, now lies
 */
export function padSequences(
  x: Tensor,
  offsets: SequenceOffsets,
  [before, after]: readonly [number, number],
): { output: Tensor; offsets: SequenceOffsets } {
  const output = new Tensor(native.padSequences(x.handle, offsets.tensor.handle, before, after));
  return { output, offsets: new SequenceOffsets(offsets.lengths.map((length) => length + before + after)) };
}
