/** {@link fakeQuantize} of weights on the GPU. */
import type { DeviceTensor } from "../device/device_tensor.js";
import { deviceScaledSum } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import {
  deviceApplyMask,
  deviceFakeQuantize,
  deviceFakeQuantizeBackward,
  deviceScaleAndRound,
  type DeviceScales,
  type Rounding,
} from "../device/training_operations.js";
import { wants } from "../ops/gradients.js";
import { recordStep, type Tape } from "../ops/tape.js";
import type { Tensor } from "../tensor/tensor.js";
import type { FakeQuantizeOptions } from "./fake_quantize.js";

/**
 * @param weight float32 (out, in)
 * @param mask int8 (out, in), on the GPU
 */
export function fakeQuantizeOnGpu(
  weight: DeviceTensor,
  spec: string,
  mask: Tensor | undefined,
  options: Omit<FakeQuantizeOptions, "rounding"> & { readonly rounding: Rounding },
): Tensor {
  const { rule = {}, rounding, seed = 0, type = "float32" } = options;
  const quantization = { weight, spec, mask: mask && onGpu(mask, "mask") };
  const how = { rounding, seed, type };
  const given = givenScales(options);
  const { output, scales } = given
    ? { output: deviceFakeQuantize(quantization, given, how), scales: given }
    : deviceScaleAndRound(quantization, rule, how);
  options.receiveScales?.(scales);
  return recordStep(output, [weight, options.scale, options.zeroPoint], (upstream, tape) => {
    const gradient = onGpu(upstream, "gradient");
    const { clipGradient: clipped = false, throughMask = false, scaleDecay = 0 } = options;
    const throughStatistic = given || options.stopScaleGradient ? undefined : (rule.statistic ?? "format");
    const wantsScale = wants(options.scale) || wants(options.zeroPoint);
    if (!clipped && !throughStatistic && !wantsScale) {
      const masked = throughMask ? undefined : quantization.mask;
      return tape.accumulate(weight, masked ? deviceApplyMask(gradient, masked, 0) : gradient.reshape(gradient.shape));
    }
    const choices = { rounding, seed, clipped, throughMask, scaleDecay, wantsScale, throughStatistic };
    const parts = deviceFakeQuantizeBackward(quantization, scales, gradient, choices);
    learn(tape, options.scale, parts.scale, options.scaleGradientFactor);
    learn(tape, options.zeroPoint, parts.zeroPoint, options.scaleGradientFactor);
    tape.accumulate(weight, parts.weight);
  });
}

function givenScales({ scale, zeroPoint }: Pick<FakeQuantizeOptions, "scale" | "zeroPoint">): DeviceScales | undefined {
  return scale && { scale: onGpu(scale, "scale"), ...(zeroPoint && { zeroPoint: onGpu(zeroPoint, "zeroPoint") }) };
}

function learn(tape: Tape, parameter: Tensor | undefined, gradient: DeviceTensor | undefined, factor = 1): void {
  if (parameter?.requiresGrad && gradient) tape.accumulate(parameter, deviceScaledSum(gradient, factor, gradient, 0));
}
