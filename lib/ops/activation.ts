/** Activations and dropout. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceDropout, deviceGluBackward, deviceSilu, deviceSiluBackward } from "../device/gradient_operations.js";
import { gluOnGpu, onGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { recordStep } from "./tape.js";

interface ActivationBindings {
  silu(x: TensorHandle, probability: number, seed: number): TensorHandle;
  siluBackward(x: TensorHandle, gradient: TensorHandle, probability: number, seed: number): TensorHandle;
  dropout(x: TensorHandle, probability: number, seed: number): TensorHandle;
  glu(x: TensorHandle): TensorHandle;
  gluBackward(x: TensorHandle, gradient: TensorHandle): TensorHandle;
}

const native = addon as ActivationBindings;

/**
 * Inverted dropout: an element is zero with this probability, otherwise divided by one minus it. The probability is
 * rounded to a multiple of 2^-16. The same seed gives the same mask.
 */
export interface DropoutOptions {
  /** in [0, 1) */
  probability: number;
  /** a whole number in [0, 2^53), see {@link RandomStream} */
  seed: number;
}

/**
 * `x * sigmoid(x)` (Hendrycks, Gimpel 2016; Ramachandran et al. 2017), with dropout after it in the same pass.
 * Any shape.
 * @throws UsmLiteError INVALID_ARGUMENT unless `x` is float32, or bfloat16 or float16 on the GPU
 *
 * @example
 * silu(Tensor.from([0, 1])).toArray(); // 0, 0.731
 */
export function silu(x: Tensor, { dropout }: { dropout?: DropoutOptions | undefined } = {}): Tensor {
  const { probability, seed } = dropout ?? { probability: 0, seed: 0 };
  if (x instanceof DeviceTensor) {
    return recordStep(deviceSilu(x, { probability, seed }), [x], (gradient, tape) => {
      tape.accumulate(x, deviceSiluBackward(x, onGpu(gradient, "gradient"), { probability, seed }));
    });
  }
  const y = new Tensor(native.silu(x.handle, probability, seed));
  return recordStep(y, [x], (gradient, tape) => {
    tape.accumulate(x, new Tensor(native.siluBackward(x.handle, gradient.handle, probability, seed)));
  });
}

/**
 * Inverted dropout (Srivastava et al. 2014) of a tensor of any shape; the mask is computed again for the gradient.
 * @throws UsmLiteError INVALID_ARGUMENT for a probability outside of [0, 1)
 *
 * @example
 * const dropped = dropout(x, { probability: 0.1, seed: random.nextSeed() });
 */
export function dropout(x: Tensor, { probability, seed }: DropoutOptions): Tensor {
  if (x instanceof DeviceTensor) {
    return recordStep(deviceDropout(x, { probability, seed }), [x], (gradient, tape) => {
      tape.accumulate(x, deviceDropout(onGpu(gradient, "gradient"), { probability, seed }));
    });
  }
  const y = new Tensor(native.dropout(x.handle, probability, seed));
  return recordStep(y, [x], (gradient, tape) => {
    tape.accumulate(x, new Tensor(native.dropout(gradient.handle, probability, seed)));
  });
}

/**
 * Gated linear unit (Dauphin et al. 2017): the first half of the columns times the sigmoid of the second.
 * @param x (frames, 2 * channels)
 * @returns (frames, channels)
 * @throws UsmLiteError INVALID_ARGUMENT for an odd number of columns
 *
 * @example
 * const gated = glu(Tensor.zeros([120, 1024])); // (120, 512)
 */
export function glu(x: Tensor): Tensor {
  if (x instanceof DeviceTensor) {
    return recordStep(gluOnGpu(x), [x], (gradient, tape) => tape.accumulate(x, deviceGluBackward(x, onGpu(gradient, "gradient"))));
  }
  const y = new Tensor(native.glu(x.handle));
  return recordStep(y, [x], (gradient, tape) => {
    tape.accumulate(x, new Tensor(native.gluBackward(x.handle, gradient.handle)));
  });
}
