/** Sums that take the place of one addend: what gradients are gathered with, hence apart from operations that a tape records. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceAddInPlace } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import type { Tensor, TensorHandle } from "../tensor/tensor.js";

const native = addon as { addInPlace(sum: TensorHandle, addend: TensorHandle): void };

/** `sum += addend`; not differentiable. */
export function addInPlace(sum: Tensor, addend: Tensor): void {
  if (sum instanceof DeviceTensor) deviceAddInPlace(sum, onGpu(addend, "addend"));
  else native.addInPlace(sum.handle, addend.handle);
}
