/** What a change of a weight does to the output of its layer. */
import { UsmLiteError } from "../errors.js";
import { matmul } from "../ops/matmul.js";
import { weightMatrix } from "../quant/weight_matrix.js";
import { tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { scaledSum } from "../ops/elementwise.js";
import type { LayerInputs } from "./input_moments.js";

/** Squared errors relative to what there was: 0.01 is 1 % of the energy. */
export interface CompressionError {
  /** `|W - W'|² / |W|²` */
  readonly weight: number;
  /** `Σ |(W - W')·x|² / Σ |W·x|²` over the frames of calibration. */
  readonly output: number;
}

/**
 * The error of `compressed` against `weight`, both float32 (out, in) or (out, in, kernel).
 * @throws UsmLiteError INVALID_ARGUMENT when the shapes differ, or the moments are of another layer's inputs
 *
 * @example
 * const { output } = compressionError(layer.weight, fakeQuantize(layer.weight, "int4"), inputs.of(layer.name));
 */
export function compressionError(weight: Tensor, compressed: Tensor, inputs: LayerInputs): CompressionError {
  if (weight.shape.join() !== compressed.shape.join()) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `compressionError: a weight of shape (${weight.shape.join(", ")}) cannot become (${compressed.shape.join(", ")})`,
    );
  }
  return tidy(() => {
    const original = weightMatrix(weight);
    const difference = scaledSum(original, 1, weightMatrix(compressed), -1);
    const changed = energies(difference, inputs.moments);
    const before = energies(original, inputs.moments);
    return { weight: ratio(changed.weight, before.weight), output: ratio(changed.output, before.output) };
  });
}

/** `Σ |W·x|²` of a matrix (out, in) over the frames of `inputs`, which is the trace of `W·H·Wᵀ`. */
export function outputEnergy(matrix: Tensor, inputs: LayerInputs): number {
  return tidy(() => energies(matrix, inputs.moments).output);
}

function energies(matrix: Tensor, moments: Tensor): { weight: number; output: number } {
  const values = matrix.toArray();
  const product = matmul(matrix, moments).toArray();
  let weight = 0;
  let output = 0;
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    weight += value * value;
    output += value * (product[i] as number);
  }
  return { weight, output };
}

const ratio = (changed: number, before: number): number => (before > 0 ? Math.max(0, changed) / before : 0);
