/** Wanda (Sun et al., ICLR 2024, arXiv 2306.11695): pruning by |weight| times the size of its input. */
import { UsmLiteError } from "../errors.js";
import { weightMatrixShape, weightOfMatrix } from "../quant/weight_matrix.js";
import type { Sparsity } from "../quant/weight_spec.js";
import { magnitudeMask } from "../sparse/mask.js";
import { weightsTimesInputs } from "../sparse/wanda_score.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { meanSquares, type LayerInputs } from "./input_moments.js";

/**
 * float32 (out, columns) of {@link weightMatrix}: `|w_ij| · |x_j|`, with the root of the mean square for |x_j|.
 * @throws UsmLiteError INVALID_ARGUMENT when the moments are of another number of inputs
 *
 * @example
 * const score = wandaScore(layer.weight, inputs.of(layer.name)); // of its shape
 */
export function wandaScore(weight: Tensor, inputs: LayerInputs): Tensor {
  const squares = tidy(() => meanSquares(inputs).toArray());
  const [, columns] = weightMatrixShape(weight.shape);
  if (squares.length !== columns) {
    throw new UsmLiteError("INVALID_ARGUMENT", `the weight takes ${columns} inputs, but moments are of ${squares.length}`);
  }
  return weightsTimesInputs(weight, squares.map(Math.sqrt));
}

/**
 * The N:M mask of Wanda: of every M adjacent inputs the N largest scores.
 * @returns uint8 of the weight's shape, 1 where kept
 *
 * @example
 * const packed = packWeight(layer.weight, "int4+2:4", wandaMask(layer.weight, { kept: 2, of: 4 }, inputs.of(layer.name)));
 */
export function wandaMask(weight: Tensor, { kept, of }: Sparsity, inputs: LayerInputs): Tensor {
  return tidy(() => weightOfMatrix(magnitudeMask(wandaScore(weight, inputs), kept, of), weight.shape));
}

/**
 * Unstructured: of each output channel the smallest scores are pruned, wherever they are. No packed format gains from it;
 * it is for comparison.
 * @param share of the weights of a channel that is pruned, 0 to 1
 * @throws UsmLiteError INVALID_ARGUMENT for another share
 *
 * @example
 * const pruned = fakeQuantize(layer.weight, "float32", { mask: unstructuredWandaMask(layer.weight, 0.5, inputs.of(layer.name)) });
 */
export function unstructuredWandaMask(weight: Tensor, share: number, inputs: LayerInputs): Tensor {
  if (!(share >= 0 && share < 1))
    throw new UsmLiteError("INVALID_ARGUMENT", `a share of ${share} cannot be pruned; it is at least 0 and below 1`);
  return tidy(() => {
    const score = wandaScore(weight, inputs);
    const [rows, columns] = score.shape as [number, number];
    const values = score.toArray();
    const mask = new Uint8Array(values.length).fill(1);
    const pruned = Math.round(share * columns);
    for (let row = 0; row < rows; row++) {
      const scores = values.subarray(row * columns, (row + 1) * columns);
      const order = Array.from(scores.keys()).sort((a, b) => (scores[a] as number) - (scores[b] as number) || b - a);
      for (const column of order.slice(0, pruned)) mask[row * columns + column] = 0;
    }
    return weightOfMatrix(Tensor.from(mask, score.shape, "uint8"), weight.shape);
  });
}
