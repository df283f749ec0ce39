/** GPTQ and SparseGPT: rounding and pruning a weight so that the output of its layer, not the weight, changes least. */
import { addon } from "../native/addon.js";
import { UsmLiteError } from "../errors.js";
import type { LayerCoding } from "../quant/layer_coding.js";
import { weightMatrix, weightOfMatrix } from "../quant/weight_matrix.js";
import { parseWeightSpec } from "../quant/weight_spec.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { meanSquares, type LayerInputs } from "./input_moments.js";

interface SecondOrderBindings {
  inverseFactor(moments: TensorHandle, damping: number): TensorHandle;
  secondOrderRounding(
    weight: TensorHandle,
    spec: string,
    factor: TensorHandle,
    importance: TensorHandle,
    mask: TensorHandle | undefined,
    chooseMask: boolean,
    searchScales: boolean,
  ): { weight: TensorHandle; mask?: TensorHandle; scale?: TensorHandle; zeroPoint?: TensorHandle };
}

const native = addon as SecondOrderBindings;

/** Settings of {@link gptq} and {@link sparseGpt}. */
export interface SecondOrderOptions {
  /** Added to the diagonal of the moments, as a share of its mean: the less calibration speech, the more; 0.01 by default. */
  readonly damping?: number;
  /** Whether scales are searched ({@link searchScales}) instead of following from the largest weight; true by default. */
  readonly clip?: boolean;
  /** uint8, the weight's shape: what is kept. Absent: nothing is pruned by {@link gptq}; {@link sparseGpt} chooses. */
  readonly mask?: Tensor | undefined;
}

/** A weight that was solved for. Packed with these masks and scales it is exactly what was solved. */
export interface SolvedWeight extends LayerCoding {
  /** float32, the weight's shape: levels times scales; where the mask prunes, what the weight had become by then. */
  readonly weight: Tensor;
}

/**
 * GPTQ (Frantar et al., ICLR 2023, arXiv 2210.17323): inputs are rounded one after another, and those still to come make
 * up for the error. Scales of groups are chosen when their group is reached. The order of inputs stays.
 *
 * @param weight float32 (out, in) or (out, in, 1)
 * @param spec any number format, with groups or without; with N:M a mask is needed
 * @throws UsmLiteError UNSUPPORTED_SPEC; INVALID_ARGUMENT for moments of another layer's inputs, or a sparse spec without mask
 *
 * @example
 * const { weight, scale } = gptq(layer.weight, "int3/g64", inputs.of(layer.name));
 */
export function gptq(weight: Tensor, spec: string, inputs: LayerInputs, options: SecondOrderOptions = {}): SolvedWeight {
  return solve(weight, spec, inputs, options, false);
}

/**
 * SparseGPT (Frantar and Alistarh, ICML 2023, arXiv 2301.00774): {@link gptq} that also chooses, group of M inputs by group,
 * which N weights to keep: those whose loss `w² / [H⁻¹]` would cost most when the inputs to come make up for it. Pruning
 * and rounding share one pass.
 *
 * @param spec N:M with a number format or alone: "int4+2:4", "2:4"
 * @throws UsmLiteError as {@link gptq}; INVALID_ARGUMENT for a dense spec
 *
 * @example
 * const { weight, mask, ...scales } = sparseGpt(layer.weight, "int4+2:4", inputs.of(layer.name));
 * const packed = packWeight(weight, "int4+2:4", mask, scales);
 */
export function sparseGpt(weight: Tensor, spec: string, inputs: LayerInputs, options: SecondOrderOptions = {}): SolvedWeight {
  return solve(weight, spec, inputs, options, options.mask === undefined);
}

/**
 * float32 (n, n) `U`, upper triangular, with `Uᵀ·U = (moments + damping · mean diagonal · I)⁻¹`.
 * @throws UsmLiteError INVALID_ARGUMENT when what is inverted is not positive definite
 *
 * @example
 * using factor = inverseFactor(inputs.of(layer.name).moments);
 */
export function inverseFactor(moments: Tensor, damping = 0.01): Tensor {
  return new Tensor(native.inverseFactor(moments.handle, damping));
}

function solve(weight: Tensor, spec: string, inputs: LayerInputs, options: SecondOrderOptions, chooseMask: boolean): SolvedWeight {
  const { text, bits, sparsity } = parseWeightSpec(spec);
  if (bits === 32 && !sparsity && !options.mask) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${text} neither rounds nor prunes; name a number format or a sparsity, such as int4+2:4`);
  }
  const { damping, clip = true, mask } = options;
  using matrix = weightMatrix(weight);
  using maskMatrix = mask ? weightMatrix(mask) : null;
  using factor = inverseFactor(inputs.moments, damping);
  using importance = meanSquares(inputs);
  const solved = native.secondOrderRounding(matrix.handle, text, factor.handle, importance.handle, maskMatrix?.handle, chooseMask, clip);
  using rounded = new Tensor(solved.weight);
  using chosen = solved.mask ? new Tensor(solved.mask) : null;
  return {
    weight: weightOfMatrix(rounded, weight.shape),
    ...(chosen ? { mask: weightOfMatrix(chosen, weight.shape) } : {}),
    ...(solved.scale ? { scale: new Tensor(solved.scale) } : {}),
    ...(solved.zeroPoint ? { zeroPoint: new Tensor(solved.zeroPoint) } : {}),
  };
}
