/** Scales by search: how far the largest weights are clipped where that lets the others be rounded finer. */
import { addon } from "../native/addon.js";
import type { GivenScales } from "../quant/packed_weight.js";
import { weightMatrix } from "../quant/weight_matrix.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface ScaleSearchBindings {
  searchScales(
    weight: TensorHandle,
    spec: string,
    mask?: TensorHandle,
    importance?: TensorHandle,
  ): { scale: TensorHandle; zeroPoint?: TensorHandle };
}

const native = addon as ScaleSearchBindings;

/** What counts in {@link searchScales}. */
export interface ScaleSearchOptions {
  /** uint8, the weight's shape: only the weights it keeps count. */
  readonly mask?: Tensor | undefined;
  /** float32 (columns of {@link weightMatrix}): what an error of each input's weights counts; absent: all the same. */
  readonly importance?: Tensor | undefined;
}

/**
 * The scales, one per output channel or group, that lose least of `Σ importance (w - rounded)²`, out of 41 multiples of
 * the format's own: from 0.2 to 1 of a scale that follows from the largest weight, from 0.5 to 2.45 of one that follows
 * from the mean. Never worse than the format's own. With mean squares of inputs as importance it is the error of the
 * layer's output as far as inputs are uncorrelated.
 * @param weight float32 (out, in) or (out, in, kernel)
 * @throws UsmLiteError UNSUPPORTED_SPEC; INVALID_ARGUMENT for float32, which has no scales
 *
 * @example
 * const packed = packWeight(weight, "int3", undefined, searchScales(weight, "int3"));
 */
export function searchScales(weight: Tensor, spec: string, { mask, importance }: ScaleSearchOptions = {}): GivenScales {
  using matrix = weightMatrix(weight);
  using maskMatrix = mask ? weightMatrix(mask) : null;
  const { scale, zeroPoint } = native.searchScales(matrix.handle, spec, maskMatrix?.handle, importance?.handle);
  return { scale: new Tensor(scale), ...(zeroPoint ? { zeroPoint: new Tensor(zeroPoint) } : {}) };
}
