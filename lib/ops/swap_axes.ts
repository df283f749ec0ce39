/** The last two axes of a tensor, swapped. */
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface SwapAxesBindings {
  swapLastAxes(x: TensorHandle): TensorHandle;
}

const native = addon as SwapAxesBindings;

/** (a, b, c) as (a, c, b), copied. Not differentiable. */
export function swapLastAxes(x: Tensor): Tensor {
  return new Tensor(native.swapLastAxes(x.handle));
}
