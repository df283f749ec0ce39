/** {@link fakeQuantize} of weights on the GPU. */
import type { DeviceTensor } from "../device/device_tensor.js";
import { deviceScaledSum } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import { deviceFakeQuantize, deviceFakeQuantizeBackward, deviceGroupScales } from "../device/training_operations.js";
import { UsmLiteError } from "../errors.js";
import { recordStep } from "../ops/tape.js";
import type { Tensor } from "../tensor/tensor.js";
import type { FakeQuantizeOptions } from "./fake_quantize.js";
import { parseWeightSpec } from "./weight_spec.js";

/** What of {@link FakeQuantizeOptions} decides whether the GPU can do it. */
export type DeviceQuantizationSettings = Pick<FakeQuantizeOptions, "rule" | "rounding" | "scaleDecay">;

/**
 * @throws UsmLiteError UNSUPPORTED_SPEC for zero points, rounding other than to the nearest level, rules that measure anything but the largest
 * weight, penalties on scales, and scales that are quantized as well
 */
export function checkDeviceQuantization(spec: string, { rule = {}, rounding = "nearest", scaleDecay = 0 }: DeviceQuantizationSettings): void {
  const refuse = (what: string): never => {
    throw new UsmLiteError("UNSUPPORTED_SPEC", `weights on the GPU are trained without ${what}; use device "cpu"`);
  };
  const { format, text, doubleQuantized } = parseWeightSpec(spec);
  const { statistic = "format" } = rule;
  if (format.startsWith("uint")) refuse(`zero points, which ${text} has`);
  if (doubleQuantized) refuse(`scales that are quantized as well, which ${text} has`);
  if (rounding !== "nearest") refuse(`${rounding} rounding`);
  if (rule.powerOfTwo) refuse("scales that are powers of two");
  const byMean = statistic === "format" && (format === "ternary" || format === "int1");
  if (byMean || !["format", "maximum", "edge"].includes(statistic)) refuse(`scales by anything but the largest weight, such as the scale "${statistic}" of ${text}`);
  if (scaleDecay) refuse("a penalty on scales");
}

/**
 * @param weight float32 (out, in)
 * @param mask int8 (out, in), on the GPU
 * @throws UsmLiteError UNSUPPORTED_SPEC as {@link checkDeviceQuantization}
 */
export function fakeQuantizeOnGpu(weight: DeviceTensor, spec: string, mask: Tensor | undefined, options: FakeQuantizeOptions): Tensor {
  checkDeviceQuantization(spec, options);
  const { rule = {}, scaleGradientFactor = 1, stopScaleGradient = false, clipGradient = false, throughMask = false } = options;
  const quantization = { weight, spec, mask: mask && onGpu(mask, "mask") };
  const scale = options.scale ? onGpu(options.scale, "scale") : deviceGroupScales(quantization, rule);
  options.receiveScales?.({ scale });
  const choices = { clipped: clipGradient, throughMask, throughScale: !options.scale && !stopScaleGradient };
  return recordStep(deviceFakeQuantize(quantization, scale), [weight, options.scale], (gradient, tape) => {
    const parts = deviceFakeQuantizeBackward(quantization, scale, onGpu(gradient, "gradient"), choices);
    if (options.scale?.requiresGrad) tape.accumulate(options.scale, deviceScaledSum(parts.scale, scaleGradientFactor, parts.scale, 0));
    tape.accumulate(weight, parts.weight);
  });
}
