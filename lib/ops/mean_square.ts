/** Squared distance of hidden states. */
import { DeviceTensor, type DeviceTensorHandle } from "../device/device_tensor.js";
import { gpuAddon } from "../device/gpu.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { scaledSum } from "./elementwise.js";
import { recordStep } from "./tape.js";

interface MeanSquareBindings {
  sumOfSquares(tensors: TensorHandle[]): number;
}

interface DeviceMeanSquareBindings {
  deviceSumOfSquares(tensors: DeviceTensorHandle[]): number;
}

const native = addon as MeanSquareBindings;

/** Waits for the GPU where `x` is there. */
function sumOfSquares(x: Tensor): number {
  if (!(x instanceof DeviceTensor)) return native.sumOfSquares([x.handle]);
  using floats = x.type === "float32" ? x.clone() : x.cast("float32");
  return gpuAddon<DeviceMeanSquareBindings>().deviceSumOfSquares([floats.handle]);
}

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
  const energy = Math.max(sumOfSquares(teacher), Number.MIN_VALUE);
  const value = Tensor.from([sumOfSquares(difference) / energy]);
  const output = student instanceof DeviceTensor ? DeviceTensor.from(value, "float32") : value;
  return recordStep(output, [student], (gradient, tape) => {
    tape.accumulate(student, scaledSum(difference, (2 * (gradient.toArray()[0] as number)) / energy, difference, 0));
  });
}
