/** Gaussian error linear unit. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceGelu, deviceGeluBackward } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import { deviceGeluInPlace } from "../device/sample_encoder_operations.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { activeTape, recordStep } from "./tape.js";

interface GeluBindings {
  gelu(x: TensorHandle, inPlace: false): TensorHandle;
  gelu(x: TensorHandle, inPlace: true): void;
  geluBackward(x: TensorHandle, gradient: TensorHandle): TensorHandle;
}

const native = addon as GeluBindings;

/** `x Φ(x)` with the normal distribution function Φ, exact (Hendrycks, Gimpel 2016). Any shape. */
export function gelu(x: Tensor): Tensor {
  if (x instanceof DeviceTensor) {
    return recordStep(deviceGelu(x), [x], (gradient, tape) => tape.accumulate(x, deviceGeluBackward(x, onGpu(gradient, "gradient"))));
  }
  const y = new Tensor(native.gelu(x.handle, false));
  return recordStep(y, [x], (gradient, tape) => {
    tape.accumulate(x, new Tensor(native.geluBackward(x.handle, gradient.handle)));
  });
}

/** {@link gelu} that overwrites its input, which saves the memory of a large one. Not differentiable. */
export function geluInPlace(x: Tensor): void {
  if (x instanceof DeviceTensor) deviceGeluInPlace(x);
  else native.gelu(x.handle, true);
}

/** {@link gelu} of a tensor that nothing else uses: in its place, unless a tape records. */
export function geluOf(x: Tensor): Tensor {
  if (activeTape()) return gelu(x);
  geluInPlace(x);
  return x;
}
