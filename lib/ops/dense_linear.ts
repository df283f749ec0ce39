/** Linear layers whose activations and float weights are both on the GPU: those of a model that is trained there. */
import type { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceFinishLinear, deviceLinearGradient, deviceProduct, type LinearFinish } from "../device/training_operations.js";
import { accumulateDeviceProduct, accumulateResidual, wants } from "./gradients.js";
import type { LinearOptions } from "./linear.js";
import { isRecording, recordStep } from "./tape.js";

/**
 * What {@link linear} computes, in bfloat16 with sums in float32.
 * @param x bfloat16 (frames, in)
 * @param weight float32 (out, in), rounded to bfloat16 for the product; or bfloat16, whose gradient is float32 all the same
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit or an operand is on the CPU
 */
export function denseLinear(x: DeviceTensor, weight: DeviceTensor, options: LinearOptions): DeviceTensor {
  const { bias, activation = "none", scale = 1, residual, residualScale = 1, dropout } = options;
  const layer: LinearFinish = { bias: bias && onGpu(bias, "bias"), activation, scale, dropout };
  const isNarrow = weight.type === "bfloat16";
  const narrow = isNarrow ? weight : weight.cast("bfloat16");
  const added = residual && onGpu(residual, "residual");
  const isPlain = activation === "none" && (dropout?.probability ?? 0) === 0;
  const isProduct = isPlain && !bias; // with a factor and a residual, which it adds itself
  const addend = isProduct && added ? { matrix: added, factor: residualScale } : undefined;
  const sums = deviceProduct({ matrix: x }, { matrix: narrow, transposed: true }, isProduct ? scale : 1, "bfloat16", addend);
  const output = isProduct ? sums : deviceFinishLinear(sums, layer, added, residualScale);
  const recording = isRecording([x, weight, bias, residual]);
  if (!isNarrow && (!recording || !wants(x))) narrow.dispose();
  if (!isProduct && (!recording || activation === "none")) sums.dispose();
  recordStep(output, [x, weight, bias, residual], (upstream, tape) => {
    const gradient = onGpu(upstream, "gradient");
    const wantBias = wants(bias);
    const parts =
      isPlain && !wantBias
        ? { sum: undefined, bias: undefined }
        : deviceLinearGradient(gradient, layer, { sums: activation === "none" ? undefined : sums, wantSum: !isPlain, wantBias });
    const sumGradient = parts.sum ?? gradient;
    const factor = parts.sum ? 1 : scale; // a scale alone is left to the products
    if (bias && parts.bias) tape.accumulate(bias, parts.bias);
    accumulateDeviceProduct(tape, "bfloat16", x, { matrix: sumGradient }, { matrix: narrow }, factor);
    accumulateDeviceProduct(tape, "float32", weight, { matrix: sumGradient, transposed: true }, { matrix: x }, factor);
    accumulateResidual(tape, gradient, residual, residualScale);
  });
  return output;
}
