/** Copies of rows: embeddings, frames picked from a sequence, zeros around sequences. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { isRecording, recordStep } from "./tape.js";

interface RowCopiesBindings {
  addRows(x: TensorHandle, indices: TensorHandle, rows: TensorHandle): void;
  gatherRows(x: TensorHandle, indices: TensorHandle): TensorHandle;
  padSequences(x: TensorHandle, offsets: TensorHandle, before: number, after: number): TensorHandle;
}

const native = addon as RowCopiesBindings;

/**
 * Rows `indices` of `x`, in that order.
 * @param x (rows, width)
 * @returns (indices, width)
 * @throws UsmLiteError INVALID_ARGUMENT when there is no row of an index
 */
export function gatherRows(x: Tensor, indices: readonly number[] | Int32Array): Tensor {
  const tensor = Tensor.from(Int32Array.from(indices));
  const rows = new Tensor(native.gatherRows(x.handle, tensor.handle));
  if (!isRecording([x])) tensor.dispose();
  return recordStep(rows, [x], (gradient, tape) => {
    const sum = Tensor.zeros(x.shape);
    native.addRows(sum.handle, tensor.handle, gradient.handle);
    tape.accumulate(x, sum);
  });
}

/** Overwrites rows of `target` from `begin` on, without the tape. @param rows (rows, width), on the same device */
export function overwriteRows(target: Tensor, begin: number, rows: Tensor): void {
  using place = target.rows(begin, begin + rows.dim(0));
  if (place instanceof DeviceTensor) onGpu(rows, "rows").copyTo(place);
  else place.write(rows.toArray());
}

/**
 * Every sequence with rows of zeros around it.
 * @param x (frames, width)
 * @returns the padded rows and where each sequence, zeros included, now lies
 */
export function padSequences(
  x: Tensor,
  offsets: SequenceOffsets,
  [before, after]: readonly [number, number],
): { output: Tensor; offsets: SequenceOffsets } {
  const padded = new SequenceOffsets(offsets.lengths.map((length) => length + before + after));
  if (x instanceof DeviceTensor) {
    const output = DeviceTensor.zeros([padded.frames, x.dim(1)], x.type);
    offsets.lengths.forEach((length, sequence) => {
      using frames = x.rows(offsets.begin(sequence), offsets.begin(sequence) + length);
      overwriteRows(output, padded.begin(sequence) + before, frames);
    });
    return { output, offsets: padded };
  }
  const output = new Tensor(native.padSequences(x.handle, offsets.tensor.handle, before, after));
  recordStep(output, [x], (gradient, tape) => {
    let begin = 0;
    const kept = offsets.lengths.flatMap((length) => {
      const rows = Array.from({ length }, (_, row) => begin + before + row);
      begin += before + length + after;
      return rows;
    });
    tape.accumulate(x, gatherRows(gradient, kept));
  });
  return { output, offsets: padded };
}
