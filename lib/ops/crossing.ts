/** Where what the GPU computes goes on on the CPU. */
import { DeviceTensor } from "../device/device_tensor.js";
import type { Tensor } from "../tensor/tensor.js";
import { recordStep } from "./tape.js";

/**
 * `x` on the CPU, as float32; where it comes from the GPU that is waited for, and the gradient goes back there, rounded to the type of `x`.
 * Unlike `onCpu`, which is for inference, it is differentiable and leaves `x` where it is.
 */
export function crossToCpu(x: Tensor): Tensor {
  if (!(x instanceof DeviceTensor)) return x;
  return recordStep(x.toTensor(), [x], (gradient, tape) => {
    tape.accumulate(x, DeviceTensor.from(gradient, x.type === "float32" ? "float32" : "bfloat16"));
  });
}
