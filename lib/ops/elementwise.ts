/** Elementwise arithmetic. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceScaledSum } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { recordStep } from "./tape.js";

interface ElementwiseBindings {
  scaledSum(x: TensorHandle, a: number, y: TensorHandle, b: number): TensorHandle;
}

const native = addon as ElementwiseBindings;

/**
 * `a * x + b * y`, the residual connection of a Conformer block. Shapes must be equal.
 * @throws UsmLiteError INVALID_ARGUMENT when shapes differ
 *
 * @example
 * const y = scaledSum(x, 1, feedForward, 0.5); // x + feedForward / 2
 */
export function scaledSum(x: Tensor, a: number, y: Tensor, b: number): Tensor {
  const sum = valueOf(x, a, y, b);
  return recordStep(sum, [x, y], (gradient, tape) => {
    tape.accumulate(x, scaled(gradient, a));
    tape.accumulate(y, scaled(gradient, b));
  });
}

function scaled(x: Tensor, factor: number): Tensor {
  return valueOf(x, factor, x, 0);
}

const valueOf = (x: Tensor, a: number, y: Tensor, b: number): Tensor =>
  x instanceof DeviceTensor ? deviceScaledSum(x, a, onGpu(y, "y"), b) : new Tensor(native.scaledSum(x.handle, a, y.handle, b));
