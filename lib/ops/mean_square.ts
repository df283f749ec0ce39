/** Squared distance of hidden states. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceRelativeMeanSquare, deviceRelativeMeanSquareBackward } from "../device/mean_square.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { scaledSum } from "./elementwise.js";
import { recordStep } from "./tape.js";

interface MeanSquareBindings {
  sumOfSquares(tensors: TensorHandle[]): number;
}

const native = addon as MeanSquareBindings;

const sumOfSquares = (x: Tensor): number => native.sumOfSquares([x.handle]);

/**
 * `|student - teacher|² / |teacher|²` over all elements: 0 when equal, 1 for a student of zeros, whatever the teacher's scale.
 * Differentiable in the student.
 * @returns float32 (1), where the student is: one on the GPU is not waited for
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
  if (student instanceof DeviceTensor) return relativeMeanSquareOnGpu(student, onGpu(teacher, "teacher"));
  const detached = student.reshape(student.shape); // the same memory, on no tape
  const difference = scaledSum(detached, 1, teacher, -1);
  const energy = Math.max(sumOfSquares(teacher), Number.MIN_VALUE);
  return recordStep(Tensor.from([sumOfSquares(difference) / energy]), [student], (gradient, tape) => {
    tape.accumulate(student, scaledSum(difference, (2 * (gradient.toArray()[0] as number)) / energy, difference, 0));
  });
}

function relativeMeanSquareOnGpu(student: DeviceTensor, teacher: DeviceTensor): Tensor {
  const { value, factor } = deviceRelativeMeanSquare(student, teacher);
  return recordStep(value, [student], (gradient, tape) => {
    tape.accumulate(student, deviceRelativeMeanSquareBackward(student, teacher, factor, onGpu(gradient, "gradient")));
  });
}
