/** Rectified linear unit. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceFinishLinear, deviceLinearGradient } from "../device/training_operations.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { linearGradient } from "./linear_gradient.js";
import { recordStep } from "./tape.js";

const native = addon as { relu(x: TensorHandle): TensorHandle };

const layer = { activation: "relu", scale: 1, dropout: undefined } as const;

/** `max(x, 0)`, the activation of a layer that does nothing else. @param x (frames, columns) */
export function relu(x: Tensor): Tensor {
  if (x instanceof DeviceTensor) {
    const y = deviceFinishLinear(x, layer);
    return recordStep(y, [x], (gradient, tape) => {
      const { sum } = deviceLinearGradient(onGpu(gradient, "gradient"), layer, { sums: y, wantSum: true, wantBias: false });
      tape.accumulate(x, sum as DeviceTensor);
    });
  }
  const y = new Tensor(native.relu(x.handle));
  // The result tells the slope.
  return recordStep(y, [x], (gradient, tape) => {
    tape.accumulate(x, linearGradient(gradient, { ...layer, preActivation: y, wantBias: false }).sumGradient);
  });
}
