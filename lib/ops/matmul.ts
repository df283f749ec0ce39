/** Dense float32 matrix products. */
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { recordStep, type Tape } from "./tape.js";

interface MatmulBindings {
  matmul(a: TensorHandle, transposeA: boolean, b: TensorHandle, transposeB: boolean, scale: number): TensorHandle;
  matmul(a: TensorHandle, transposeA: boolean, b: TensorHandle, transposeB: boolean, scale: number, sum: TensorHandle): void;
}

const native = addon as MatmulBindings;

/** How the factors of {@link matmul} are stored. */
export interface MatmulOptions {
  /** `a` is stored as (k, m). */
  transposeA?: boolean;
  /** `b` is stored as (n, k), as the weight of a linear layer is. */
  transposeB?: boolean;
  /** Factor of the product; 1 by default. */
  scale?: number;
}

/**
 * `scale * op(a)·op(b)` (m, n) of matrices op(a) (m, k) and op(b) (k, n).
 * @throws UsmLiteError INVALID_ARGUMENT when the shapes do not multiply
 *
 * @example
 * const product = matmul(Tensor.zeros([2, 3]), Tensor.zeros([3, 4])); // (2, 4)
 */
export function matmul(a: Tensor, b: Tensor, options: MatmulOptions = {}): Tensor {
  const { transposeA = false, transposeB = false, scale = 1 } = options;
  const product = new Tensor(native.matmul(a.handle, transposeA, b.handle, transposeB, scale));
  return recordStep(product, [a, b], (gradient, tape) => {
    // With C = A·B: dA = dC·Bᵀ and dB = Aᵀ·dC; a transposed operand wants the transpose of that.
    if (transposeA) accumulateProduct(tape, a, { matrix: b, transposed: transposeB }, { matrix: gradient, transposed: true }, scale);
    else accumulateProduct(tape, a, { matrix: gradient }, { matrix: b, transposed: !transposeB }, scale);
    if (transposeB) accumulateProduct(tape, b, { matrix: gradient, transposed: true }, { matrix: a, transposed: transposeA }, scale);
    else accumulateProduct(tape, b, { matrix: a, transposed: !transposeA }, { matrix: gradient }, scale);
  });
}

/** A matrix of a product, perhaps transposed. */
interface Operand {
  readonly matrix: Tensor;
  readonly transposed?: boolean;
}

/** Adds `scale * left·right` to the gradient of `tensor`, in place where there is one already. */
export function accumulateProduct(tape: Tape, tensor: Tensor, left: Operand, right: Operand, scale: number): void {
  if (!tensor.requiresGrad) return;
  const operands = [left.matrix.handle, left.transposed ?? false, right.matrix.handle, right.transposed ?? false, scale] as const;
  const sum = tape.gradientOf(tensor);
  if (sum) {
    native.matmul(...operands, asMatrix(sum).handle);
    return;
  }
  const product = new Tensor(native.matmul(...operands));
  tape.accumulate(tensor, tensor.shape.length === 2 ? product : product.reshape(tensor.shape));
}

/** A weight (out, in) or (out, in, 1) as (out, in), sharing memory. */
export function asMatrix(weight: Tensor): Tensor {
  return weight.shape.length === 2 ? weight : weight.reshape([weight.dim(0), weight.size / weight.dim(0)]);
}
