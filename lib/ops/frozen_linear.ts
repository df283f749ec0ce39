/** Linear layers whose packed weight stays as it is while something before them learns. */
import { addon } from "../native/addon.js";
import type { PackedMatrix, PackedMatrixHandle } from "../quant/packed_matrix.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { accumulateResidual } from "./gradients.js";
import { packedLinear, type ActivationCoding } from "./packed_linear.js";
import { recordStep } from "./tape.js";

interface PackedGradientBindings {
  packedGradient(gradient: TensorHandle, weight: PackedMatrixHandle, scale: number): TensorHandle;
}

const native = addon as PackedGradientBindings;

interface FrozenLinearOptions {
  /** (out); gets no gradient. */
  bias?: Tensor | undefined;
  /** Factor of what the layer adds to the residual. */
  scale?: number;
  /** (frames, out), added to the result. */
  residual?: Tensor | undefined;
  /** Factor of the residual; 1 by default. */
  residualScale?: number;
  /** What the weights are multiplied by; default `int8`. */
  activations?: ActivationCoding;
}

/**
 * `residualScale * residual + scale * (x·Wᵀ + bias)`, (frames, out), as {@link packedLinear} computes it, with gradients
 * of `x` and `residual`. The gradient of `x` is multiplied by the packed codes: no float copy of the weight is made. That
 * `x` was rounded on the way counts as the identity.
 *
 * @param x (frames, in)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 */
export function frozenLinear(x: Tensor, weight: PackedMatrix, options: FrozenLinearOptions = {}): Tensor {
  const { scale = 1, residual, residualScale = 1 } = options;
  const y = packedLinear(x, weight, options);
  return recordStep(y, [x, residual], (gradient, tape) => {
    if (x.requiresGrad) tape.accumulate(x, new Tensor(native.packedGradient(gradient.handle, weight.handle, scale)));
    accumulateResidual(tape, gradient, residual, residualScale);
  });
}
