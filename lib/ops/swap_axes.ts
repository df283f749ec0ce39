/** The last two axes of a tensor, swapped. */
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { recordStep } from "./tape.js";

interface SwapAxesBindings {
  swapLastAxes(x: TensorHandle): TensorHandle;
}

const native = addon as SwapAxesBindings;

/** (a, b, c) as (a, c, b), copied. */
export function swapLastAxes(x: Tensor): Tensor {
  const y = new Tensor(native.swapLastAxes(x.handle));
  return recordStep(y, [x], (gradient, tape) => tape.accumulate(x, new Tensor(native.swapLastAxes(gradient.handle))));
}
