/** Rectified linear unit. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceFinishLinear, deviceLinearGradient } from "../device/training_operations.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import { linearGradient } from "./linear_gradient.js";
import { addLowRank } from "./low_rank.js";
import { recordStep } from "./tape.js";

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
  const y = x.clone();
  addLowRank(y, y, new SequenceOffsets([y.dim(0)]), [undefined], { activation: "relu" });
  // The result tells the slope.
  return recordStep(y, [x], (gradient, tape) => {
    tape.accumulate(x, linearGradient(gradient, { ...layer, preActivation: y, wantBias: false }).sumGradient);
  });
}
