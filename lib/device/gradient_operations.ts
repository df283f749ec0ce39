/**
 * What training does on the GPU besides products with weights: pure functions, which {@link Tape} knows nothing of; the operations
 * of lib/ops call them. Frames are `bfloat16` or `float16`, and so are their gradients, of the same shape; parameters and their
 * gradients are float32; arithmetic is in float32 and rounded once. Sums over frames are taken in one order, so that the same
 * call gives the same bits. Functions return before the GPU has done them, and throw UsmLiteError INVALID_ARGUMENT when shapes
 * or types do not fit, UNSUPPORTED_SPEC for sizes that the kernels do not have.
 */
import type { DropoutOptions } from "../ops/activation.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface GradientBindings {
  deviceScaledSum(x: DeviceTensorHandle, a: number, y: DeviceTensorHandle, b: number, on?: StreamHandle): DeviceTensorHandle;
  deviceAddInPlace(sum: DeviceTensorHandle, addend: DeviceTensorHandle, on?: StreamHandle): void;
  deviceDropout(x: DeviceTensorHandle, probability: number, seed: number, on?: StreamHandle): DeviceTensorHandle;
  deviceSilu(x: DeviceTensorHandle, probability: number, seed: number, on?: StreamHandle): DeviceTensorHandle;
  deviceSiluBackward(x: DeviceTensorHandle, gradient: DeviceTensorHandle, probability: number, seed: number, on?: StreamHandle): DeviceTensorHandle;
  deviceGluBackward(x: DeviceTensorHandle, gradient: DeviceTensorHandle, on?: StreamHandle): DeviceTensorHandle;
  deviceTranspose(x: DeviceTensorHandle, on?: StreamHandle): DeviceTensorHandle;
}

const native = (): GradientBindings => gpuAddon<GradientBindings>();

const NO_DROPOUT: DropoutOptions = { probability: 0, seed: 0 };

/** `a * x + b * y`. Float tensors of one type and shape, one or two axes. */
export function deviceScaledSum(x: DeviceTensor, a: number, y: DeviceTensor, b: number, on?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceScaledSum(x.handle, a, y.handle, b, on?.handle));
}

/** `sum += addend`. Float tensors of one type and shape, one or two axes. */
export function deviceAddInPlace(sum: DeviceTensor, addend: DeviceTensor, on?: DeviceStream): void {
  native().deviceAddInPlace(sum.handle, addend.handle, on?.handle);
}

/**
 * Inverted dropout (Srivastava et al. 2014), with the mask that `dropout` of the CPU has; its own gradient.
 * @param x (frames, columns)
 */
export function deviceDropout(x: DeviceTensor, { probability, seed }: DropoutOptions, on?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceDropout(x.handle, probability, seed, on?.handle));
}

/**
 * `x * sigmoid(x)`, then dropout.
 * @param x (frames, columns)
 */
export function deviceSilu(x: DeviceTensor, dropout: DropoutOptions = NO_DROPOUT, on?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceSilu(x.handle, dropout.probability, dropout.seed, on?.handle));
}

/**
 * The gradient of {@link deviceSilu}'s input.
 * @param x (frames, columns), that input
 * @param gradient (frames, columns), of its result
 * @param dropout what the forward pass was given
 */
export function deviceSiluBackward(x: DeviceTensor, gradient: DeviceTensor, dropout: DropoutOptions = NO_DROPOUT, on?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceSiluBackward(x.handle, gradient.handle, dropout.probability, dropout.seed, on?.handle));
}

/**
 * The gradient of the input of a gated linear unit.
 * @param x (frames, 2 * channels), that input
 * @param gradient (frames, channels), of its result
 * @returns (frames, 2 * channels)
 */
export function deviceGluBackward(x: DeviceTensor, gradient: DeviceTensor, on?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceGluBackward(x.handle, gradient.handle, on?.handle));
}

/** (rows, columns) of any float type as (columns, rows), a copy. */
export function deviceTranspose(x: DeviceTensor, on?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceTranspose(x.handle, on?.handle));
}
