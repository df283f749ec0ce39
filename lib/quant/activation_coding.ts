/** How activations meet packed weights. */
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

/** The names of {@link ActivationCoding}. */
export const activationCodings = ["float32", "int8", "int8-asymmetric", "int4"] as const;

/**
 * How every row of activations becomes whole numbers: `int8`, 255 steps symmetric around zero; `int8-asymmetric`, 255 steps from
 * its least to its largest value; `int4`, 15 symmetric steps. `float32`: the weights become floats instead.
 */
export type ActivationCoding = (typeof activationCodings)[number];

interface RoundRowsBindings {
  roundRows(x: TensorHandle, activations: ActivationCoding): TensorHandle;
}

const native = addon as RoundRowsBindings;

/**
 * Activations (rows, columns) as products of whole numbers see them, in floats; not differentiable. A row with NaN or infinity is NaN.
 * @throws UsmLiteError INVALID_ARGUMENT for `float32`
 *
 * @example
 * roundRows(Tensor.from([1, 0.3, -7], [1, 3]), "int4").toArray(); // 1, 0, -7: steps of a seventh of the largest
 */
export function roundRows(x: Tensor, activations: ActivationCoding): Tensor {
  return new Tensor(native.roundRows(x.handle, activations));
}
