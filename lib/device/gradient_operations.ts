/**
 * What training does on the GPU besides products with weights: pure functions, which {@link Tape} knows nothing of; the operations of lib/ops
 * call them. Frames are bfloat16 (elementwise operations take float16 too), and so are their gradients, of the same shape; parameters and
 * their gradients are float32; arithmetic is in float32 and rounded once. Sums over frames are taken in one order, so that the same call
 * gives the same bits. Functions return before the GPU has done them, and throw UsmLiteError INVALID_ARGUMENT when shapes or types do not
 * fit, UNSUPPORTED_SPEC for sizes that the kernels do not have.
 */
import type { DropoutOptions } from "../ops/activation.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";
import { layerGradients, type DeviceLayerGradients, type OptionalHandles, type WantedGradients } from "./layer_gradients.js";

interface GradientBindings {
  deviceScaledSum(x: DeviceTensorHandle, a: number, y: DeviceTensorHandle, b: number, stream?: StreamHandle): DeviceTensorHandle;
  deviceAddInPlace(sum: DeviceTensorHandle, addend: DeviceTensorHandle, stream?: StreamHandle): void;
  deviceMultiply(x: DeviceTensorHandle, y: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceRaise(x: DeviceTensorHandle, least: number, stream?: StreamHandle): void;
  deviceDropout(x: DeviceTensorHandle, probability: number, seed: number, stream?: StreamHandle): DeviceTensorHandle;
  deviceSilu(x: DeviceTensorHandle, probability: number, seed: number, stream?: StreamHandle): DeviceTensorHandle;
  deviceSiluBackward(
    x: DeviceTensorHandle,
    gradient: DeviceTensorHandle,
    probability: number,
    seed: number,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceGelu(x: DeviceTensorHandle, inPlace: false, stream?: StreamHandle): DeviceTensorHandle;
  deviceGeluBackward(x: DeviceTensorHandle, gradient: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceGluBackward(x: DeviceTensorHandle, gradient: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceTranspose(x: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceLayerNormBackward(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    gradient: DeviceTensorHandle,
    epsilon: number,
    wantsX: boolean,
    wantsWeight: boolean,
    wantsBias: boolean,
    sum?: DeviceTensorHandle,
    stream?: StreamHandle,
  ): OptionalHandles;
  deviceBatchNorm(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    bias: DeviceTensorHandle,
    epsilon: number,
    silu: boolean,
    training: boolean,
    momentum: number,
    runningMean: DeviceTensorHandle,
    runningVariance: DeviceTensorHandle,
    stream?: StreamHandle,
  ): Handles;
  deviceBatchNormBackward(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    bias: DeviceTensorHandle,
    mean: DeviceTensorHandle,
    reciprocalDeviation: DeviceTensorHandle,
    gradient: DeviceTensorHandle,
    silu: boolean,
    training: boolean,
    stream?: StreamHandle,
  ): Handles;
}

type Handles = [DeviceTensorHandle, DeviceTensorHandle, DeviceTensorHandle];

const native = (): GradientBindings => gpuAddon<GradientBindings>();

const NO_DROPOUT: DropoutOptions = { probability: 0, seed: 0 };

/** `a * x + b * y`. Float tensors of one type and shape, one or two axes. */
export function deviceScaledSum(x: DeviceTensor, a: number, y: DeviceTensor, b: number, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceScaledSum(x.handle, a, y.handle, b, stream?.handle));
}

/** `sum += addend`. Float tensors of one type and shape, one or two axes. */
export function deviceAddInPlace(sum: DeviceTensor, addend: DeviceTensor, stream?: DeviceStream): void {
  native().deviceAddInPlace(sum.handle, addend.handle, stream?.handle);
}

/** `x * y`, element by element. float32 of one shape, one or two axes. */
export function deviceMultiply(x: DeviceTensor, y: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceMultiply(x.handle, y.handle, stream?.handle));
}

/** `x = max(x, least)`. float32, one or two axes. */
export function deviceRaise(x: DeviceTensor, least: number, stream?: DeviceStream): void {
  native().deviceRaise(x.handle, least, stream?.handle);
}

/**
 * Inverted dropout (Srivastava et al. 2014), with the mask that `dropout` of the CPU has; its own gradient.
 * @param x (frames, columns)
 */
export function deviceDropout(x: DeviceTensor, { probability, seed }: DropoutOptions, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceDropout(x.handle, probability, seed, stream?.handle));
}

/**
 * `x * sigmoid(x)`, then dropout.
 * @param x (frames, columns)
 */
export function deviceSilu(x: DeviceTensor, dropout: DropoutOptions = NO_DROPOUT, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceSilu(x.handle, dropout.probability, dropout.seed, stream?.handle));
}

/**
 * The gradient of {@link deviceSilu}'s input.
 * @param x (frames, columns), that input
 * @param gradient (frames, columns), of its result
 * @param dropout what the forward pass was given
 */
export function deviceSiluBackward(
  x: DeviceTensor,
  gradient: DeviceTensor,
  dropout: DropoutOptions = NO_DROPOUT,
  stream?: DeviceStream,
): DeviceTensor {
  return new DeviceTensor(native().deviceSiluBackward(x.handle, gradient.handle, dropout.probability, dropout.seed, stream?.handle));
}

/** `x Φ(x)`, exact (Hendrycks, Gimpel 2016). @param x (frames, columns) */
export function deviceGelu(x: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceGelu(x.handle, false, stream?.handle));
}

/**
 * The gradient of {@link deviceGelu}'s input.
 * @param x (frames, columns), that input
 * @param gradient (frames, columns), of its result
 */
export function deviceGeluBackward(x: DeviceTensor, gradient: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceGeluBackward(x.handle, gradient.handle, stream?.handle));
}

/**
 * The gradient of the input of a gated linear unit.
 * @param x (frames, 2 * channels), that input
 * @param gradient (frames, channels), of its result
 * @returns (frames, 2 * channels)
 */
export function deviceGluBackward(x: DeviceTensor, gradient: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceGluBackward(x.handle, gradient.handle, stream?.handle));
}

/** (rows, columns) of any float type as (columns, rows), a copy. */
export function deviceTranspose(x: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceTranspose(x.handle, stream?.handle));
}

/**
 * Gradients of {@link deviceLayerNorm}.
 * @param x (frames, hidden), its input; hidden at most 4096
 * @param weight float32 (hidden)
 * @param gradient (frames, hidden), of its result
 * @param options.sum (frames, hidden), what the residual connection around the layer brought back to `x`: the gradient of `x` is added to
 * it instead of returned
 */
export function deviceLayerNormBackward(
  x: DeviceTensor,
  weight: DeviceTensor,
  gradient: DeviceTensor,
  {
    epsilon,
    wantsX,
    wantsWeight,
    wantsBias,
    sum,
    stream,
  }: WantedGradients & { epsilon: number; sum?: DeviceTensor | undefined; stream?: DeviceStream | undefined },
): DeviceLayerGradients {
  const [of, weights, upstream] = [x.handle, weight.handle, gradient.handle];
  return layerGradients(
    native().deviceLayerNormBackward(of, weights, upstream, epsilon, wantsX, wantsWeight, wantsBias, sum?.handle, stream?.handle),
  );
}

export interface DeviceBatchNormOptions {
  /** added to the variance */
  epsilon: number;
  /** SiLU of the result in the same pass */
  silu: boolean;
  /** true: statistics of these frames, and the running ones are updated; false: the running ones are used */
  training: boolean;
  /** `running = (1 - momentum) * running + momentum * batch` */
  momentum: number;
  /** float32 (channels) */
  runningMean: DeviceTensor;
  /** float32 (channels), unbiased */
  runningVariance: DeviceTensor;
  stream?: DeviceStream | undefined;
}

/**
 * Batch normalization over all frames of a packed batch (Ioffe, Szegedy 2015).
 * @param x (frames, channels), at least two frames when training
 * @param weight float32 (channels)
 * @param bias float32 (channels)
 * @returns `y` like x; `mean` and `reciprocalDeviation` float32 (channels), for {@link deviceBatchNormBackward}
 */
export function deviceBatchNorm(
  x: DeviceTensor,
  weight: DeviceTensor,
  bias: DeviceTensor,
  { epsilon, silu, training, momentum, runningMean, runningVariance, stream }: DeviceBatchNormOptions,
): { y: DeviceTensor; mean: DeviceTensor; reciprocalDeviation: DeviceTensor } {
  const [y, mean, reciprocalDeviation] = native().deviceBatchNorm(
    x.handle,
    weight.handle,
    bias.handle,
    epsilon,
    silu,
    training,
    momentum,
    runningMean.handle,
    runningVariance.handle,
    stream?.handle,
  );
  return { y: new DeviceTensor(y), mean: new DeviceTensor(mean), reciprocalDeviation: new DeviceTensor(reciprocalDeviation) };
}

/**
 * Gradients of {@link deviceBatchNorm}; with `training`, through its statistics too.
 * @param gradient (frames, channels), of y
 */
export function deviceBatchNormBackward(
  x: DeviceTensor,
  weight: DeviceTensor,
  bias: DeviceTensor,
  mean: DeviceTensor,
  reciprocalDeviation: DeviceTensor,
  gradient: DeviceTensor,
  { silu, training, stream }: { silu: boolean; training: boolean; stream?: DeviceStream | undefined },
): { x: DeviceTensor; weight: DeviceTensor; bias: DeviceTensor } {
  const handles = native().deviceBatchNormBackward(
    x.handle,
    weight.handle,
    bias.handle,
    mean.handle,
    reciprocalDeviation.handle,
    gradient.handle,
    silu,
    training,
    stream?.handle,
  );
  return { x: new DeviceTensor(handles[0]), weight: new DeviceTensor(handles[1]), bias: new DeviceTensor(handles[2]) };
}
