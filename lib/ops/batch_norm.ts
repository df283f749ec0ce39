/** Batch normalization of packed sequences, and its disappearance into the convolution before it. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceBatchNorm, deviceBatchNormBackward } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import { vectorOnGpu } from "../device/placement.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { accumulateAll, accumulateParts } from "./gradients.js";
import { recordStep } from "./tape.js";

interface BatchNormBindings {
  batchNorm(
    x: TensorHandle,
    weight: TensorHandle,
    bias: TensorHandle,
    epsilon: number,
    silu: boolean,
    training: boolean,
    momentum: number,
    runningMean: TensorHandle,
    runningVariance: TensorHandle,
  ): [y: TensorHandle, mean: TensorHandle, reciprocalDeviation: TensorHandle];
  batchNormBackward(
    x: TensorHandle,
    weight: TensorHandle,
    bias: TensorHandle,
    mean: TensorHandle,
    reciprocalDeviation: TensorHandle,
    gradient: TensorHandle,
    silu: boolean,
    training: boolean,
  ): TensorHandle[];
}

const native = addon as BatchNormBindings;

/** What {@link batchNorm} is told. */
export interface BatchNormOptions {
  /** added to the variance */
  epsilon: number;
  /** applied to the result in the same pass */
  activation?: "none" | "silu";
  /** true: statistics of this batch, and the running ones are updated; false: the running ones are used */
  training: boolean;
  /** (channels), updated in place when training */
  runningMean: Tensor;
  /** (channels), unbiased, updated in place when training */
  runningVariance: Tensor;
  /** `running = (1 - momentum) * running + momentum * batch` */
  momentum: number;
}

/**
 * `(x - mean) / sqrt(variance + epsilon) * weight + bias` per channel over all frames of the batch (Ioffe, Szegedy
 * 2015). The batch is packed, so statistics are of real frames only.
 * @param x (frames, channels); at least two frames when training
 * @param weight (channels)
 * @param bias (channels)
 * @returns (frames, channels)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 *
 * @example
 * const [runningMean, runningVariance] = [Tensor.zeros([channels]), Tensor.from(new Float32Array(channels).fill(1))];
 * const y = batchNorm(x, scale, shift, { training: true, epsilon: 1e-5, momentum: 0.01, runningMean, runningVariance });
 */
export function batchNorm(x: Tensor, weight: Tensor, bias: Tensor, options: BatchNormOptions): Tensor {
  const { epsilon, activation = "none", training, runningMean, runningVariance, momentum } = options;
  const fused = activation === "silu";
  if (x instanceof DeviceTensor) return batchNormOnGpu(x, weight, bias, options);
  const handles = native.batchNorm(
    x.handle,
    weight.handle,
    bias.handle,
    epsilon,
    fused,
    training,
    momentum,
    runningMean.handle,
    runningVariance.handle,
  );
  const [y, mean, reciprocalDeviation] = handles.map((handle) => new Tensor(handle)) as [Tensor, Tensor, Tensor];
  return recordStep(y, [x, weight, bias], (gradient, tape) => {
    const gradients = native.batchNormBackward(
      x.handle,
      weight.handle,
      bias.handle,
      mean.handle,
      reciprocalDeviation.handle,
      gradient.handle,
      fused,
      training,
    );
    accumulateAll(tape, [x, weight, bias], gradients);
  });
}

function batchNormOnGpu(x: DeviceTensor, weight: Tensor, bias: Tensor, options: BatchNormOptions): Tensor {
  const { epsilon, activation = "none", training, momentum } = options;
  const silu = activation === "silu";
  const [scale, shift] = [vectorOnGpu(weight), vectorOnGpu(bias)];
  // Statistics that are updated must be those on the GPU, not copies of others.
  const statistics = (values: Tensor, name: string): DeviceTensor => (training ? onGpu(values, name) : vectorOnGpu(values));
  const { y, mean, reciprocalDeviation } = deviceBatchNorm(x, scale, shift, {
    epsilon,
    silu,
    training,
    momentum,
    runningMean: statistics(options.runningMean, "runningMean"),
    runningVariance: statistics(options.runningVariance, "runningVariance"),
  });
  return recordStep(y, [x, weight, bias], (gradient, tape) => {
    const gradients = deviceBatchNormBackward(x, scale, shift, mean, reciprocalDeviation, onGpu(gradient, "gradient"), { silu, training });
    accumulateParts(tape, { x, weight, bias }, gradients);
  });
}

/** What {@link foldBatchNorm} needs to know of a normalization. */
export interface FrozenBatchNorm {
  weight: Tensor;
  bias: Tensor;
  runningMean: Tensor;
  runningVariance: Tensor;
  epsilon: number;
}

/**
 * The depthwise convolution that does what `convolution` and an inference-time batch normalization after it do:
 * `weight' = weight * s` and `bias' = (bias - mean) * s + shift` with `s = scale / sqrt(variance + epsilon)`.
 * @param convolutionWeight (channels, kernel) or (channels, 1, kernel)
 * @param convolutionBias (channels); absent means zero
 * @returns new tensors, not differentiable
 *
 * @example
 * const folded = foldBatchNorm(kernels, undefined, { weight: scale, bias: shift, runningMean, runningVariance, epsilon: 1e-5 });
 * const y = depthwiseConvolution(x, folded.weight, offsets, { bias: folded.bias });
 */
export function foldBatchNorm(
  convolutionWeight: Tensor,
  convolutionBias: Tensor | undefined,
  norm: FrozenBatchNorm,
): { weight: Tensor; bias: Tensor } {
  const weight = convolutionWeight.toArray();
  const [scale, shift, mean, variance] = [norm.weight, norm.bias, norm.runningMean, norm.runningVariance].map((tensor) =>
    tensor.toArray(),
  ) as [Float32Array, Float32Array, Float32Array, Float32Array];
  const channels = scale.length;
  const kernel = weight.length / channels;
  const bias = convolutionBias?.toArray() ?? new Float32Array(channels);
  for (let c = 0; c < channels; c++) {
    const factor = (scale[c] as number) / Math.sqrt((variance[c] as number) + norm.epsilon);
    for (let k = 0; k < kernel; k++) (weight[c * kernel + k] as number) *= factor;
    bias[c] = ((bias[c] as number) - (mean[c] as number)) * factor + (shift[c] as number);
  }
  return { weight: Tensor.from(weight, convolutionWeight.shape), bias: Tensor.from(bias) };
}
