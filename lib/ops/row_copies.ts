/** Copies of rows: embeddings, frames picked from a sequence, zeros around sequences. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { placeSequences, sequencesOnGpu } from "../device/placement.js";
import { deviceAddRows, deviceGatherRows } from "../device/sequence_training.js";
import { addon } from "../native/addon.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { isRecording, recordStep, type Tape } from "./tape.js";

interface RowCopiesBindings {
  addRows(x: TensorHandle, indices: TensorHandle, rows: TensorHandle): void;
  gatherRows(x: TensorHandle, indices: TensorHandle): TensorHandle;
  padSequences(x: TensorHandle, offsets: TensorHandle, before: number, after: number): TensorHandle;
}

const native = addon as RowCopiesBindings;

/**
 * Rows `indices` of `x`, in that order; on the GPU rounded to bfloat16.
 * @param x (rows, width)
 * @returns (indices, width)
 * @throws UsmLiteError INVALID_ARGUMENT when there is no row of an index
 */
export function gatherRows(x: Tensor, indices: readonly number[] | Int32Array): Tensor {
  const tensor = Tensor.from(Int32Array.from(indices));
  const rows = x instanceof DeviceTensor ? deviceGatherRows(x, tensor) : new Tensor(native.gatherRows(x.handle, tensor.handle));
  if (!isRecording([x])) tensor.dispose();
  return recordStep(rows, [x], (gradient, tape) => {
    if (x instanceof DeviceTensor) return accumulateRows(tape, x, tensor, onGpu(gradient, "gradient"));
    const sum = Tensor.zeros(x.shape);
    native.addRows(sum.handle, tensor.handle, gradient.handle);
    tape.accumulate(x, sum);
  });
}

/** Adds rows to the float32 gradient of a table on the GPU. */
function accumulateRows(tape: Tape, table: DeviceTensor, indices: Tensor, gradient: DeviceTensor): void {
  const rows = gradient.type === "float32" ? gradient.cast("bfloat16") : gradient;
  const sum = tape.gradientOf(table);
  if (sum) return deviceAddRows(onGpu(sum, "the gradient"), indices, rows);
  const fresh = DeviceTensor.zeros(table.shape, "float32");
  deviceAddRows(fresh, indices, rows);
  tape.accumulate(table, fresh);
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
    if (before === after && offsets.lengths.every((length) => length > 0)) {
      // Worked out there, so that a recording may hold it: as by a convolution over single frames, which makes none of nothing.
      placeSequences(padded, sequencesOnGpu(offsets).shorten(padded, { kernel: 1, stride: 1, padding: before }));
    }
    const output = DeviceTensor.zeros([padded.frames, x.dim(1)], x.type);
    offsets.lengths.forEach((length, sequence) => {
      using frames = x.rows(offsets.begin(sequence), offsets.begin(sequence) + length);
      overwriteRows(output, padded.begin(sequence) + before, frames);
    });
    recordStep(output, [x], (gradient, tape) => tape.accumulate(x, gatherRows(gradient, keptRows(offsets, [before, after]))));
    return { output, offsets: padded };
  }
  const output = new Tensor(native.padSequences(x.handle, offsets.tensor.handle, before, after));
  recordStep(output, [x], (gradient, tape) => tape.accumulate(x, gatherRows(gradient, keptRows(offsets, [before, after]))));
  return { output, offsets: padded };
}

/** The rows of padded sequences that are not zeros around them. */
function keptRows(offsets: SequenceOffsets, [before, after]: readonly [number, number]): Int32Array {
  const kept = new Int32Array(offsets.frames);
  offsets.lengths.forEach((length, sequence) => {
    const begin = offsets.begin(sequence),
      padding = before + sequence * (before + after);
    for (let row = begin; row < begin + length; row++) kept[row] = row + padding;
  });
  return kept;
}
