/** Linear layers of training on the GPU that multiply in whole numbers. */
import type { DeviceTensor } from "../device/device_tensor.js";
import type { DeviceWeight } from "../device/device_weight.js";
import { deviceScaledSum } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import { deviceIntegerLinear, deviceIntegerLinearBackward } from "../device/integer_training.js";
import type { Tensor } from "../tensor/tensor.js";
import { accumulateParts, wants } from "./gradients.js";
import type { LinearOptions } from "./linear.js";
import { recordStep } from "./tape.js";

/**
 * What {@link integerLinear} computes, without dropout.
 * @param weight float32 (out, in), on the tape
 * @param integers the same values, until the backward pass
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit or an operand is on the CPU
 */
export function integerLinearOnGpu(
  x: DeviceTensor,
  weight: Tensor,
  integers: DeviceWeight,
  options: Omit<LinearOptions, "dropout">,
): Tensor {
  const { bias, activation = "none", scale = 1, residual, residualScale = 1 } = options;
  const layer = { bias: bias && onGpu(bias, "bias"), activation, scale };
  const output = deviceIntegerLinear(x, integers, { ...layer, residual: residual && onGpu(residual, "residual"), residualScale });
  return recordStep(output, [x, weight, bias, residual], (upstream, tape) => {
    const gradient = onGpu(upstream, "gradient");
    const wanted = { wantsX: wants(x), wantsWeight: wants(weight), wantsBias: wants(bias) };
    accumulateParts(
      tape,
      { x, weight, bias },
      deviceIntegerLinearBackward(x, { weight: onGpu(weight, "weight"), integers }, gradient, { ...layer, ...wanted }),
    );
    // Last: the residual takes over the memory of the gradient.
    if (!residual || !wants(residual)) return;
    tape.accumulate(
      residual,
      residualScale === 1 ? gradient.reshape(gradient.shape) : deviceScaledSum(gradient, residualScale, gradient, 0),
    );
  });
}
