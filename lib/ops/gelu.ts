/** Gaussian error linear unit. */
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface GeluBindings {
  gelu(x: TensorHandle, inPlace: false): TensorHandle;
  gelu(x: TensorHandle, inPlace: true): void;
}

const native = addon as GeluBindings;

/** `x Φ(x)` with the normal distribution function Φ, exact (Hendrycks, Gimpel 2016). Any shape. Not differentiable. */
export function gelu(x: Tensor): Tensor {
  return new Tensor(native.gelu(x.handle, false));
}

/** {@link gelu} that overwrites its input, which saves the memory of a large one. */
export function geluInPlace(x: Tensor): void {
  native.gelu(x.handle, true);
}
