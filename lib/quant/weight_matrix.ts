/** The matrix that a layer multiplies by, which is what specs, masks and scales speak of. */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface WindowOrderBindings {
  swapLastAxes(x: TensorHandle): TensorHandle;
}

const native = addon as WindowOrderBindings;

/**
 * The matrix of a weight: (out, in) of a linear layer or a pointwise convolution (out, in, 1); (out, kernel * in), tap
 * after tap, of a convolution (out, in, kernel), because a window of frames is such a row.
 * @throws UsmLiteError INVALID_ARGUMENT for other shapes
 */
export function weightMatrix(weight: Tensor): Tensor {
  const [out, columns] = weightMatrixShape(weight.shape);
  if ((weight.shape[2] ?? 1) === 1) return weight.reshape([out, columns]);
  using swapped = new Tensor(native.swapLastAxes(weight.handle));
  return swapped.reshape([out, columns]);
}

/** The weight of `shape` whose {@link weightMatrix} is `matrix`. */
export function weightOfMatrix(matrix: Tensor, shape: readonly number[]): Tensor {
  const [out, inputs, kernel = 1] = shape as [number, number, number?];
  if (kernel === 1) return matrix.reshape(shape);
  using taps = matrix.reshape([out, kernel, inputs]);
  return new Tensor(native.swapLastAxes(taps.handle));
}

/** Shape of {@link weightMatrix}. @throws UsmLiteError INVALID_ARGUMENT unless `shape` is (out, in) or (out, in, kernel) */
export function weightMatrixShape(shape: readonly number[]): [out: number, columns: number] {
  const [out, inputs, kernel = 1] = shape;
  if (out === undefined || inputs === undefined || shape.length > 3) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `a weight of shape (${shape.join(", ")}) is no matrix; pruning and quantization take (out, in) or (out, in, kernel)`,
    );
  }
  return [out, inputs * kernel];
}
