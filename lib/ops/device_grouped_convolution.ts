/** Convolution over time in groups of channels, whose weight is trained on the GPU. */
import type { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import { deviceGroupedProducts, deviceGroupedProductsBackward } from "../device/positional_convolution_training.js";
import { deviceFinishLinear, deviceLinearGradient, type LinearFinish } from "../device/training_operations.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { accumulateParts, wants } from "./gradients.js";
import type { GroupedConvolutionOptions } from "./grouped_convolution.js";
import { isRecording, recordStep } from "./tape.js";

/**
 * `residual + activation(groupedConvolution(x))`, in bfloat16 with sums in float32.
 * @param x bfloat16 (frames, in)
 * @param weight float32 (out, kernel * in / groups), rounded to bfloat16 for the products; or bfloat16
 * @param bias float32 (out)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit; UNSUPPORTED_SPEC for groups of channels that are no multiples of 8
 */
export function trainedGroupedConvolution(
  x: DeviceTensor,
  weight: DeviceTensor,
  bias: Tensor,
  offsets: SequenceOffsets,
  { residual, activation, ...options }: GroupedConvolutionOptions & { residual: Tensor; activation: "relu" | "silu" | "gelu" },
): Tensor {
  const sequences = sequencesOnGpu(offsets);
  const layer: LinearFinish = { bias: onGpu(bias, "bias"), activation, scale: 1 };
  const narrow = weight.type === "bfloat16" ? weight : weight.cast("bfloat16");
  const sums = deviceGroupedProducts(x, narrow, sequences, options);
  const output = deviceFinishLinear(sums, layer, onGpu(residual, "residual"));
  if (!isRecording([x, weight, bias, residual])) {
    sums.dispose();
    if (narrow !== weight) narrow.dispose();
  }
  return recordStep(output, [x, weight, bias, residual], (upstream, tape) => {
    const gradient = onGpu(upstream, "gradient");
    const wantSum = wants(x) || wants(weight);
    const parts = deviceLinearGradient(gradient, layer, { sums, wantSum, wantBias: wants(bias) });
    if (parts.bias) tape.accumulate(bias, parts.bias);
    if (parts.sum) {
      const wanted = { ...options, wantsX: wants(x), wantsWeight: wants(weight) };
      accumulateParts(tape, { x, weight }, deviceGroupedProductsBackward(x, narrow, sequences, parts.sum, wanted));
    }
    // Last: the residual takes over the memory of the gradient.
    if (wants(residual)) tape.accumulate(residual, gradient.reshape(gradient.shape));
  });
}
