/** The likeliest of the tokens that may come next, found on the GPU: a few numbers come down instead of a score for every token. */
import type { Tensor, TensorHandle } from "../tensor/tensor.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface TokenChoiceBindings {
  deviceChooseTokens(scores: DeviceTensorHandle, bias: DeviceTensorHandle, rules: TensorHandle, count: number): DeviceTensorHandle;
}

/**
 * What {@link chooseTokens} lays out.
 * @param scores (sequences, vocabulary): bfloat16 or float16
 * @param bias float32 (sets, vocabulary)
 * @param rules int32 (sequences, 6)
 * @returns float32 (sequences, count * 3)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 */
export function deviceChooseTokens(scores: DeviceTensor, bias: DeviceTensor, rules: Tensor, count: number): DeviceTensor {
  return new DeviceTensor(gpuAddon<TokenChoiceBindings>().deviceChooseTokens(scores.handle, bias.handle, rules.handle, count));
}
