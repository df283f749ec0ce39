/** Another shape for the same values. */
import type { Tensor } from "../tensor/tensor.js";
import { recordStep } from "./tape.js";

/** `x` with another shape of as many elements, sharing its memory. */
export function reshape(x: Tensor, shape: readonly number[]): Tensor {
  return recordStep(x.reshape(shape), [x], (gradient, tape) => tape.accumulate(x, gradient.reshape(x.shape)));
}
