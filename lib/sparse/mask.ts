/** N:M masks: which inputs of every group of M adjacent ones a pruned weight keeps. */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface MaskBindings {
  magnitudeMask(weight: TensorHandle, n: number, m: number): TensorHandle;
}

const native = addon as MaskBindings;

/**
 * Keeps the `n` largest |w| of every `m` adjacent inputs; ties go to the lower index. A last, incomplete group keeps at
 * most `n`.
 * @param weight float32 (out, in) or (out, in, 1)
 * @returns uint8 of the same shape, 1 where kept
 * @throws UsmLiteError INVALID_ARGUMENT unless 1 <= n < m <= 16
 */
export function magnitudeMask(weight: Tensor, n: number, m: number): Tensor {
  using matrix = weight.reshape(matrixShape(weight));
  using mask = new Tensor(native.magnitudeMask(matrix.handle, n, m));
  return mask.reshape(weight.shape);
}

/** (out, in) of a weight (out, in) or, from a pointwise convolution, (out, in, 1). @throws UsmLiteError INVALID_ARGUMENT */
export function matrixShape(weight: Tensor): [rows: number, columns: number] {
  const [rows, columns, last = 1] = weight.shape;
  if (rows === undefined || columns === undefined || last !== 1 || weight.shape.length > 3) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `a weight of shape (${weight.shape.join(", ")}) is no matrix; pruning and quantization take (out, in) or (out, in, 1)`,
    );
  }
  return [rows, columns];
}
