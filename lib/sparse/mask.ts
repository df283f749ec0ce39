/** N:M masks: which inputs of every group of M adjacent ones a pruned weight keeps. */
import { addon } from "../native/addon.js";
import { weightMatrix, weightOfMatrix } from "../quant/weight_matrix.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface MaskBindings {
  magnitudeMask(weight: TensorHandle, n: number, m: number): TensorHandle;
}

const native = addon as MaskBindings;

/**
 * Keeps the `n` largest |w| of every `m` adjacent inputs; ties go to the lower index. A last, incomplete group keeps at
 * most `n`.
 * @param weight float32 (out, in) or (out, in, kernel); the inputs of a convolution are adjacent within a tap
 * @returns uint8 of the same shape, 1 where kept
 * @throws UsmLiteError INVALID_ARGUMENT unless 1 <= n < m <= 16
 */
export function magnitudeMask(weight: Tensor, n: number, m: number): Tensor {
  using matrix = weightMatrix(weight);
  using mask = new Tensor(native.magnitudeMask(matrix.handle, n, m));
  return weightOfMatrix(mask, weight.shape);
}
