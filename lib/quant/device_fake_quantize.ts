/** {@link fakeQuantize} of weights on the GPU. */
import type { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceFakeQuantize, deviceFakeQuantizeBackward, deviceGroupScales } from "../device/training_operations.js";
import { UsmLiteError } from "../errors.js";
import { recordStep } from "../ops/tape.js";
import type { Tensor } from "../tensor/tensor.js";
import type { FakeQuantizeOptions } from "./fake_quantize.js";

/**
 * @param weight float32 (out, in)
 * @param mask int8 (out, in), on the GPU
 * @throws UsmLiteError UNSUPPORTED_SPEC for zero points, rounding other than to the nearest level, rules that measure anything but the largest
 * weight, and learned scales
 */
export function fakeQuantizeOnGpu(weight: DeviceTensor, spec: string, mask: Tensor | undefined, options: FakeQuantizeOptions): Tensor {
  const { rule = {}, rounding = "nearest", stopScaleGradient = false, clipGradient = false, throughMask = false } = options;
  const refuse = (what: string): never => {
    throw new UsmLiteError("UNSUPPORTED_SPEC", `weights on the GPU are trained without ${what}; use device "cpu"`);
  };
  if (rounding !== "nearest") refuse(`${rounding} rounding`);
  if (rule.powerOfTwo || rule.search) refuse("scales that are powers of two or searched for");
  if (options.scale?.requiresGrad) refuse("learned scales");
  if (options.scaleDecay) refuse("a penalty on scales");
  const quantization = { weight, spec, mask: mask && onGpu(mask, "mask") };
  const scale = options.scale ? onGpu(options.scale, "scale") : deviceGroupScales(quantization, rule);
  options.receiveScales?.({ scale });
  const choices = { clipped: clipGradient, throughMask, throughScale: !options.scale && !stopScaleGradient };
  return recordStep(deviceFakeQuantize(quantization, scale), [weight], (gradient, tape) => {
    tape.accumulate(weight, deviceFakeQuantizeBackward(quantization, scale, onGpu(gradient, "gradient"), choices).weight);
  });
}
