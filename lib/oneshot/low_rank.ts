/** Low-rank factorization of a linear layer: for comparison with pruning and quantization. */
import { UsmLiteError } from "../errors.js";
import { matmul } from "../ops/matmul.js";
import { RandomStream } from "../ops/random_stream.js";
import { weightMatrix } from "../quant/weight_matrix.js";
import { packedBytes } from "../quant/weight_spec.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { LayerInputs } from "./input_moments.js";
import { inverseFactor } from "./second_order_rounding.js";

/** Steps of subspace iteration. Its error falls with the ratio of neighbouring eigenvalues to this power. */
const iterations = 12;

/** Directions beyond the rank that iterate with it, because the last ones converge slowly. */
const oversampling = 8;

/** `W ≈ left·right`: two linear layers, of which `right` comes first. */
export interface LowRankFactors {
  /** float32 (out, rank), with orthonormal columns. */
  readonly left: Tensor;
  /** float32 (rank, in) */
  readonly right: Tensor;
}

/**
 * The factors of `rank` that change the output of the layer least, over the frames of `inputs`: `left` are the principal
 * directions of its output `W·x`, eigenvectors of `W·H·Wᵀ`, and `right` is `leftᵀ·W`. Without inputs all directions count
 * the same and the product is the truncated singular value decomposition of W. Found by subspace iteration from a start
 * that depends on nothing but the shape.
 * @param weight float32 (out, in) or (out, in, 1)
 * @throws UsmLiteError INVALID_ARGUMENT for a rank that is no whole number from 1 to the smaller side
 *
 * @example
 * const { left, right } = lowRankFactors(layer.weight, 32, inputs.of(layer.name));
 * const output = linear(linear(x, right), left);
 */
export function lowRankFactors(weight: Tensor, rank: number, inputs?: LayerInputs): LowRankFactors {
  return tidy(() => {
    const matrix = weightMatrix(weight);
    const [rows, columns] = matrix.shape as [number, number];
    const limit = Math.min(rows, columns);
    if (!Number.isInteger(rank) || rank < 1 || rank > limit) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `rank ${rank} is impossible for (${rows}, ${columns}); it is a whole number from 1 to ${limit}`,
      );
    }
    const width = Math.min(rows, rank + oversampling);
    const random = new RandomStream(rank);
    let basis = orthonormal(
      Tensor.from(
        Float32Array.from({ length: rows * width }, () => random.uniform() - 0.5),
        [rows, width],
      ),
    );
    for (let step = 0; step < iterations; step++) basis = orthonormal(covarianceTimes(matrix, basis, inputs));
    const kept = Tensor.from(firstColumns(byEnergy(basis, covarianceTimes(matrix, basis, inputs)), rank), [rows, rank]);
    return { left: kept, right: matmul(kept, matrix, { transposeA: true }) };
  });
}

/**
 * The largest rank whose two factors, coded as `spec`, take at most `bytes`; 0 when not even one does.
 * @throws UsmLiteError UNSUPPORTED_SPEC
 *
 * @example
 * rankWithin(packedTotal, 1024, 1024, "int8"); // the factors that cost as much as packing would
 */
export function rankWithin(bytes: number, rows: number, columns: number, spec: string): number {
  let low = 0;
  let high = Math.min(rows, columns);
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (lowRankBytes(middle, rows, columns, spec) <= bytes) low = middle;
    else high = middle - 1;
  }
  return low;
}

/**
 * Bytes of the two factors of a (rows, columns) weight, packed as `spec`.
 * @throws UsmLiteError UNSUPPORTED_SPEC
 *
 * @example
 * lowRankBytes(64, 1024, 1024, "float32"); // 524288
 */
export function lowRankBytes(rank: number, rows: number, columns: number, spec: string): number {
  const total = (r: number, c: number): number => {
    if (spec === "float32") return 4 * r * c;
    const { codes, scales, mask } = packedBytes(spec, r, c);
    return codes + scales + mask;
  };
  return total(rows, rank) + total(rank, columns);
}

/** `W·H·Wᵀ·V` */
function covarianceTimes(matrix: Tensor, basis: Tensor, inputs: LayerInputs | undefined): Tensor {
  const back = matmul(matrix, basis, { transposeA: true });
  return matmul(matrix, inputs ? matmul(inputs.moments, back, { scale: 1 / inputs.frames }) : back);
}

/** The same subspace with its directions of most energy first (Rayleigh-Ritz): eigenvectors of the small `Vᵀ·A·V`. */
function byEnergy(basis: Tensor, product: Tensor): Tensor {
  const width = basis.dim(1);
  const small = matmul(basis, product, { transposeA: true }).toArray();
  return matmul(basis, Tensor.from(jacobiEigenvectors(small, width), [width, width]));
}

/** Eigenvectors of a symmetric matrix as columns, of the largest eigenvalue first (cyclic Jacobi). */
export function jacobiEigenvectors(symmetric: Float32Array, size: number): Float32Array {
  const a = Float64Array.from(symmetric);
  const v = new Float64Array(size * size);
  for (let i = 0; i < size; i++) v[i * size + i] = 1;
  const at = (m: Float64Array, i: number, j: number): number => m[i * size + j] as number;
  for (let sweep = 0; sweep < 12; sweep++) {
    let off = 0;
    let diagonal = 0;
    for (let i = 0; i < size; i++)
      for (let j = 0; j < size; j++)
        if (i === j) diagonal += at(a, i, j) ** 2;
        else off += at(a, i, j) ** 2;
    if (off <= 1e-20 * diagonal) break;
    for (let p = 0; p < size; p++) {
      for (let q = p + 1; q < size; q++) {
        if (at(a, p, q) === 0) continue;
        const theta = (at(a, q, q) - at(a, p, p)) / (2 * at(a, p, q));
        const t = Math.sign(theta || 1) / (Math.abs(theta) + Math.sqrt(theta * theta + 1));
        const c = 1 / Math.sqrt(t * t + 1);
        const s = t * c;
        for (let k = 0; k < size; k++) rotate(a, k * size + p, k * size + q, c, s);
        for (let k = 0; k < size; k++) rotate(a, p * size + k, q * size + k, c, s);
        for (let k = 0; k < size; k++) rotate(v, k * size + p, k * size + q, c, s);
      }
    }
  }
  const order = Array.from({ length: size }, (_, i) => i).sort((i, j) => at(a, j, j) - at(a, i, i));
  return Float32Array.from({ length: size * size }, (_, i) => at(v, Math.floor(i / size), order[i % size] as number));
}

function rotate(m: Float64Array, i: number, j: number, c: number, s: number): void {
  const x = m[i] as number;
  const y = m[j] as number;
  m[i] = c * x - s * y;
  m[j] = s * x + c * y;
}

/**
 * Dampings of the passes of {@link orthonormal}, as shares of the mean square of the columns. Covariances in float32 can be
 * indefinite by their rounding errors; a pass brings directions up to the root of its damping to size, the last ones the rest.
 */
const dampings = [1e-4, 1e-4, 1e-6];

/** An orthonormal basis of the columns: `Y·Uᵀ` with `Uᵀ·U = (Yᵀ·Y)⁻¹`, in passes (shifted Cholesky QR, Fukaya et al. 2020). */
function orthonormal(columns: Tensor): Tensor {
  return dampings.reduce(
    (basis, damping) => matmul(basis, inverseFactor(matmul(basis, basis, { transposeA: true }), damping), { transposeB: true }),
    columns,
  );
}

function firstColumns(matrix: Tensor, count: number): Float32Array {
  const [rows, columns] = matrix.shape as [number, number];
  const values = matrix.toArray();
  return Float32Array.from({ length: rows * count }, (_, i) => values[Math.floor(i / count) * columns + (i % count)] as number);
}
