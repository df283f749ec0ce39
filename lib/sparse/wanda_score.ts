/** What Wanda ranks weights by (Sun et al., ICLR 2024, arXiv 2306.11695). */
import { weightMatrix } from "../quant/weight_matrix.js";
import { Tensor } from "../tensor/tensor.js";

/**
 * float32 (out, columns) of {@link weightMatrix}: `|w_ij| · |x_j|`.
 * @param inputNorms |x_j| of each column, in any unit common to all: only the order within a row counts
 */
export function weightsTimesInputs(weight: Tensor, inputNorms: Float32Array): Tensor {
  using matrix = weightMatrix(weight);
  const columns = inputNorms.length;
  return Tensor.from(
    matrix.toArray().map((value, i) => Math.abs(value) * (inputNorms[i % columns] as number)),
    matrix.shape,
  );
}
