/** Linear layers with packed weights, for inference. */
import { addon } from "../native/addon.js";
import type { PackedMatrix, PackedMatrixHandle } from "../quant/packed_matrix.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import type { Activation, LinearOptions } from "./linear.js";

export interface PackedLinearOptions extends Omit<LinearOptions, "dropout"> {
  /**
   * What the weights are multiplied by. `int8`, the default: every row of `x` is rounded to 255 steps of its largest
   * magnitude and whole numbers are multiplied, several times faster. `float32`: the weights become floats. Weights that
   * are floats themselves always use `float32`.
   */
  activations?: "float32" | "int8";
}

interface PackedLinearBindings {
  packedLinear(
    x: TensorHandle,
    weight: PackedMatrixHandle,
    bias: TensorHandle | undefined,
    activation: Activation,
    scale: number,
    residual: TensorHandle | undefined,
    residualScale: number,
    activations: "float32" | "int8",
  ): TensorHandle;
}

const native = addon as PackedLinearBindings;

/**
 * `residualScale * residual + scale * activation(x·Wᵀ + bias)`, (frames, out), as {@link linear} computes it; not
 * differentiable. A row of `x` that holds NaN or infinity gives a row of NaN.
 *
 * @param x float32 (frames, in)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit, TENSOR_RELEASED when the weight was disposed of
 */
export function packedLinear(x: Tensor, weight: PackedMatrix, options: PackedLinearOptions = {}): Tensor {
  const { bias, activation = "none", scale = 1, residual, residualScale = 1, activations = "int8" } = options;
  return new Tensor(
    native.packedLinear(x.handle, weight.handle, bias?.handle, activation, scale, residual?.handle, residualScale, activations),
  );
}
