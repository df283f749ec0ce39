/**
 * SmoothQuant (Xiao et al., ICML 2023, arXiv 2211.10438): moves what is hard to quantize from activations to weights. A channel of
 * the input that is far larger than the others takes the levels of all when they share a scale; divided by s_j before and multiplied
 * by s_j in the weights that read it, it changes nothing in floats.
 */
import { UsmLiteError } from "../errors.js";
import { weightMatrixShape } from "../quant/weight_matrix.js";
import { Tensor } from "../tensor/tensor.js";

/** Factors beyond these would rather be a channel that calibration never woke than an outlier. */
const smallest = 1e-5;
const largest = 1e5;

/**
 * `s_j = max|x_j|^alpha / max|w_j|^(1 - alpha)`, equation 4 of the paper; 1 for channels whose inputs or weights are all 0.
 * @param inputMaxima max|x_j| of each channel
 * @param weights float32 (out, in) or (out, in, 1) of all layers that read the channels
 * @param alpha 0 to 1, how much of the difficulty goes to the weights
 * @returns (in)
 * @throws UsmLiteError INVALID_ARGUMENT for another alpha, weights of other widths, or maxima that are not finite
 *
 * @example
 * const scales = smoothingScales(maxima.of("q_proj.weight"), [query, key, value], 0.5);
 */
export function smoothingScales(inputMaxima: Float32Array, weights: readonly Tensor[], alpha: number): Float32Array {
  if (!(alpha >= 0 && alpha <= 1)) throw new UsmLiteError("INVALID_ARGUMENT", `alpha is ${alpha}; it is a number from 0 to 1`);
  const weightMaxima = new Float32Array(inputMaxima.length);
  for (const weight of weights) {
    checkWidth(weight, inputMaxima.length);
    weight.toArray().forEach((value, i) => {
      const j = i % weightMaxima.length;
      weightMaxima[j] = Math.max(weightMaxima[j] as number, Math.abs(value));
    });
  }
  return inputMaxima.map((input, j) => {
    const weight = weightMaxima[j] as number;
    if (!Number.isFinite(input) || !Number.isFinite(weight)) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `input ${j} has values that are not finite, in speech or in weights; there is no scale for them`,
      );
    }
    if (input === 0 || weight === 0) return 1;
    return Math.min(largest, Math.max(smallest, input ** alpha / weight ** (1 - alpha)));
  });
}

/**
 * The weight of a linear layer with column j multiplied by `scales[j]`.
 * @param weight float32 (out, in) or (out, in, 1)
 * @throws UsmLiteError INVALID_ARGUMENT when there are not as many scales as inputs
 *
 * @example
 * scaleColumns(Tensor.from([1, 2, 3, 4], [2, 2]), Float32Array.of(1, 10)).toArray(); // 1, 20, 3, 40
 */
export function scaleColumns(weight: Tensor, scales: Float32Array): Tensor {
  checkWidth(weight, scales.length);
  return Tensor.from(
    (weight.toArray() as Float32Array).map((value, i) => value * (scales[i % scales.length] as number)),
    weight.shape,
  );
}

function checkWidth(weight: Tensor, inputs: number): void {
  const [, columns] = weightMatrixShape(weight.shape);
  if (columns === inputs) return;
  throw new UsmLiteError("INVALID_ARGUMENT", `the weight takes ${columns} inputs, but there are ${inputs} channels`);
}
