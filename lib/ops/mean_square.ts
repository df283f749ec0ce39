/** Squared distance of hidden states. */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { scaledSum } from "./elementwise.js";
import { recordStep } from "./tape.js";

interface MeanSquareBindings {
  sumOfSquares(tensors: TensorHandle[]): number;
}

const native = addon as MeanSquareBindings;

/**
 * `|student - teacher|² / |teacher|²` over all elements: 0 when equal, 1 for a student of zeros, whatever the teacher's scale.
 * Differentiable in the student.
 * @returns float32 (1)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes differ
 *
 * @example
 * const loss = scaledSum(ctc, 1, relativeMeanSquare(studentHidden, teacherHidden), 0.5);
 */
export function relativeMeanSquare(student: Tensor, teacher: Tensor): Tensor {
  if (student.shape.join() !== teacher.shape.join()) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `relativeMeanSquare: the student has shape (${student.shape.join(", ")}) but the teacher (${teacher.shape.join(", ")})`,
    );
  }
  const detached = student.reshape(student.shape); // the same memory, on no tape
  const difference = scaledSum(detached, 1, teacher, -1);
  const energy = Math.max(native.sumOfSquares([teacher.handle]), Number.MIN_VALUE);
  const output = Tensor.from([native.sumOfSquares([difference.handle]) / energy]);
  return recordStep(output, [student], (gradient, tape) => {
    tape.accumulate(student, scaledSum(difference, (2 * (gradient.toArray()[0] as number)) / energy, difference, 0));
  });
}
