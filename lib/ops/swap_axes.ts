/** The last two axes of a tensor, swapped. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceSwapColumnAxes } from "../device/encoder_operations.js";
import { onGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { reshape } from "./reshape.js";
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

/** (rows, outer * inner) as (rows, inner * outer), copied: each row is a matrix that is transposed. */
export function swapColumnAxes(x: Tensor, outer: number): Tensor {
  const [rows, columns] = [x.dim(0), x.dim(1)];
  if (x instanceof DeviceTensor) {
    return recordStep(deviceSwapColumnAxes(x, outer), [x], (gradient, tape) => {
      tape.accumulate(x, deviceSwapColumnAxes(onGpu(gradient, "gradient"), columns / outer));
    });
  }
  return reshape(swapLastAxes(reshape(x, [rows, outer, columns / outer])), [rows, columns]);
}
