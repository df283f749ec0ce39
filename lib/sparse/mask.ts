/** N:M masks: which inputs of every group of M adjacent ones a pruned weight keeps. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceMagnitudeMask } from "../device/training_operations.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { weightMatrix, weightOfMatrix } from "../quant/weight_matrix.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface MaskBindings {
  magnitudeMask(weight: TensorHandle, n: number, m: number): TensorHandle;
}

const native = addon as MaskBindings;

/**
 * Keeps the `n` largest |w| of every `m` adjacent inputs; ties go to the lower index. A last, incomplete group keeps at
 * most `n`.
 * @param weight float32 (out, in) or (out, in, kernel); the inputs of a convolution are adjacent within a tap
 * @returns uint8 of the same shape, 1 where kept; int8 for a weight on the GPU, and there
 * @throws UsmLiteError INVALID_ARGUMENT unless 1 <= n < m <= 16
 *
 * @example
 * magnitudeMask(Tensor.from([3, -1, 2, -4], [1, 4]), 2, 4).toArray(); // 1, 0, 0, 1
 */
export function magnitudeMask(weight: Tensor, n: number, m: number): Tensor {
  if (weight instanceof DeviceTensor) return deviceMagnitudeMask(weight, n, m);
  using matrix = weightMatrix(weight);
  using mask = new Tensor(native.magnitudeMask(matrix.handle, n, m));
  return weightOfMatrix(mask, weight.shape);
}

/**
 * How many of every `m` adjacent inputs a mask keeps, a last, incomplete group at most as many; undefined where it is not the same number
 * everywhere.
 * @param mask uint8, of a weight (out, in) or (out, in, kernel)
 *
 * @example
 * keptOf(magnitudeMask(weight, 3, 4), 4); // 3
 */
export function keptOf(mask: Tensor, m: number): number | undefined {
  using matrix = weightMatrix(mask);
  const kept = matrix.toArray();
  const [rows, columns] = [matrix.dim(0), matrix.dim(1)];
  const countIn = (begin: number, end: number): number => {
    let count = 0;
    for (let i = begin; i < end; i++) if (kept[i] !== 0) count++;
    return count;
  };
  const wanted = countIn(0, Math.min(m, columns));
  for (let row = 0; row < rows; row++) {
    for (let at = 0; at < columns; at += m) {
      const end = Math.min(at + m, columns);
      if (countIn(row * columns + at, row * columns + end) !== Math.min(wanted, end - at)) return undefined;
    }
  }
  return wanted;
}

/**
 * Prunes `share` of the weights, those with the least |w|, wherever they are; ties go to the lower index. For comparison with N:M: no
 * packed format profits from it.
 * @returns uint8 of the weight's shape, 1 where kept
 * @throws UsmLiteError INVALID_ARGUMENT unless 0 <= share < 1
 *
 * @example
 * unstructuredMask(Tensor.from([3, -1, 2, -4]), 0.5).toArray(); // 1, 0, 0, 1
 */
export function unstructuredMask(weight: Tensor, share: number): Tensor {
  if (!(share >= 0 && share < 1)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `unstructuredMask: share is ${share}; it must be at least 0 and below 1`);
  }
  const magnitudes = weight.toArray().map(Math.abs);
  const pruned = Math.round(share * magnitudes.length);
  const limit = pruned > 0 ? (magnitudes.slice().sort()[pruned - 1] as number) : -1;
  const mask = Uint8Array.from(magnitudes, (value) => (value > limit ? 1 : 0));
  // Of those equal to the limit as many are kept as there is room for.
  let room = magnitudes.length - pruned - mask.reduce((sum, kept) => sum + kept, 0);
  for (let i = 0; room > 0; i++) {
    if (magnitudes[i] !== limit) continue;
    mask[i] = 1;
    room--;
  }
  return Tensor.from(mask, weight.shape, "uint8");
}
