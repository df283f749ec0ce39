/** Quantization-aware training: the weights as they will be after packing, differentiable. */
import { addon } from "../native/addon.js";
import { recordStep } from "../ops/tape.js";
import { magnitudeMask } from "../sparse/mask.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { weightMatrix, weightOfMatrix } from "./weight_matrix.js";
import { parseWeightSpec } from "./weight_spec.js";

interface FakeQuantizeBindings {
  fakeQuantize(weight: TensorHandle, spec: string, mask?: TensorHandle): TensorHandle;
  fakeQuantizeBackward(
    outputGradient: TensorHandle,
    weight: TensorHandle,
    spec: string,
    mask: TensorHandle | undefined,
    scaleGradient: boolean,
  ): TensorHandle;
}

const native = addon as FakeQuantizeBindings;

export interface FakeQuantizeOptions {
  /**
   * uint8, the weight's shape: 0 prunes. Absent: a sparse spec prunes to {@link magnitudeMask} of the current weights,
   * a dense one prunes nothing. Pruned weights keep their value and get no gradient. The caller keeps it alive until
   * the backward pass.
   */
  mask?: Tensor;
  /** Treat the scale as a constant, so that the largest weight of a channel gets no gradient through it. */
  stopScaleGradient?: boolean;
}

/**
 * What {@link packWeight} and {@link unpackWeight} would make of `weight`, to the bit, with straight-through gradients:
 * rounding counts as the identity, pruned weights get none, and the scale is differentiated unless `stopScaleGradient`:
 * the weights that it was computed from also get what flows through it, `sum(g * (level - zeroPoint - w / scale))` times
 * the derivative of the scale. `int`, `midrise`, `nf4`: `sign(w) / largest level` for the largest |w| of each channel (or
 * group); `ternary`, `int1`: `sign(w) / count` for every one; `uint`: `1 / largest level` for the largest w and the
 * negative for the least. Prune, then quantize: USM-Lite (arXiv 2312.08553) with the quantizer of google/praxis.
 *
 * @param weight float32 (out, in) or (out, in, kernel), of which {@link weightMatrix} is quantized
 * @returns float32, the weight's shape; for plain `float32` without a mask the weight itself
 * @throws UsmLiteError UNSUPPORTED_SPEC; INVALID_ARGUMENT for a mask of another shape
 */
export function fakeQuantize(weight: Tensor, spec: string, options: FakeQuantizeOptions = {}): Tensor {
  const { text, bits, sparsity } = parseWeightSpec(spec);
  const mask = options.mask ?? (sparsity && magnitudeMask(weight, sparsity.kept, sparsity.of));
  if (bits === 32 && !mask) return weight;
  using matrix = weightMatrix(weight);
  using maskMatrix = mask ? weightMatrix(mask) : null;
  using quantized = new Tensor(native.fakeQuantize(matrix.handle, text, maskMatrix?.handle));
  return recordStep(weightOfMatrix(quantized, weight.shape), [weight], (gradient, tape) => {
    using matrix = weightMatrix(weight);
    using gradientMatrix = weightMatrix(gradient);
    using maskMatrix = mask ? weightMatrix(mask) : null;
    using result = new Tensor(
      native.fakeQuantizeBackward(gradientMatrix.handle, matrix.handle, text, maskMatrix?.handle, !options.stopScaleGradient),
    );
    tape.accumulate(weight, weightOfMatrix(result, weight.shape));
  });
}
