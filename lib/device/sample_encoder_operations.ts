/**
 * What encoders of samples, as wav2vec 2.0 has them, do on the GPU besides what all encoders do: encoder_operations.ts, whose rules are
 * those here too.
 */
import { isBatchInvariant } from "./batch_invariance.js";
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import type { DeviceWeight, DeviceWeightHandle } from "./device_weight.js";
import { gpuAddon } from "./gpu.js";

interface SampleEncoderBindings {
  deviceSampleWindows(
    x: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    kernel: number,
    stride: number,
    outputs: DeviceSequencesHandle,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceInstanceNorm(
    x: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    weight: DeviceTensorHandle,
    bias: DeviceTensorHandle,
    epsilon: number,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceGelu(x: DeviceTensorHandle, inPlace: true, stream?: StreamHandle): void;
  deviceGroupedConvolution(
    x: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    weights: readonly DeviceWeightHandle[],
    biases: readonly DeviceTensorHandle[],
    kernel: number,
    leftPadding: number,
    gelu: boolean,
    residual: DeviceTensorHandle | undefined,
    batchInvariant: boolean,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
}

const native = (): SampleEncoderBindings => gpuAddon<SampleEncoderBindings>();

/**
 * The windows of a strided convolution over samples as rows, for {@link deviceLinear} with its weight, whose columns are filled up with
 * zeros likewise.
 * @param x float32 (samples), a vector
 * @param outputs windows of each sequence; none may reach beyond it
 * @returns bfloat16 (windows, kernel, rounded up to a multiple of 8), zeros behind each window
 */
export function deviceSampleWindows(
  x: DeviceTensor,
  sequences: DeviceSequences,
  { kernel, stride, outputs, stream }: { kernel: number; stride: number; outputs: DeviceSequences; stream?: DeviceStream | undefined },
): DeviceTensor {
  return new DeviceTensor(native().deviceSampleWindows(x.handle, sequences.handle, kernel, stride, outputs.handle, stream?.handle));
}

/**
 * `(x - mean) / sqrt(variance + epsilon) * weight + bias` per channel and sequence, with the biased variance (Wu, He 2018).
 * @param x (frames, channels)
 * @param weight float32 (channels)
 * @param bias float32 (channels)
 */
export function deviceInstanceNorm(
  x: DeviceTensor,
  sequences: DeviceSequences,
  { weight, bias, epsilon, stream }: { weight: DeviceTensor; bias: DeviceTensor; epsilon: number; stream?: DeviceStream | undefined },
): DeviceTensor {
  return new DeviceTensor(native().deviceInstanceNorm(x.handle, sequences.handle, weight.handle, bias.handle, epsilon, stream?.handle));
}

/** `x Φ(x)`, exact (Hendrycks, Gimpel 2016), in place. {@link deviceLinear} does this within the product. */
export function deviceGeluInPlace(x: DeviceTensor, stream?: DeviceStream): void {
  native().deviceGelu(x.handle, true, stream?.handle);
}

export interface DeviceGroupedConvolutionOptions {
  /** Frames of a window. */
  kernel: number;
  /** Zeros before each sequence, 0 .. kernel - 1; the rest of kernel - 1 lies behind it. */
  leftPadding: number;
  /** Of each group, as {@link DeviceWeight.arrangeBias} of its weight gives it; absent means zero. */
  biases?: readonly DeviceTensor[];
  activation?: "none" | "gelu";
  /** (frames, out), added to the result. */
  residual?: DeviceTensor | undefined;
  stream?: DeviceStream | undefined;
}

/**
 * `residual + activation(convolution(x) + bias)` over time in groups of channels: as many frames come out as go in, a group of output
 * channels sees the input channels of its group. A group after the other is a product of its windows.
 * @param x (frames, in)
 * @param weights of each group, (out / groups, kernel * in / groups); both numbers of channels multiples of 8
 * @returns (frames, out)
 */
export function deviceGroupedConvolution(
  x: DeviceTensor,
  weights: readonly DeviceWeight[],
  sequences: DeviceSequences,
  { kernel, leftPadding, biases = [], activation = "none", residual, stream }: DeviceGroupedConvolutionOptions,
): DeviceTensor {
  const [ofWeights, ofBiases] = [weights.map(({ handle }) => handle), biases.map(({ handle }) => handle)];
  return new DeviceTensor(
    native().deviceGroupedConvolution(
      x.handle,
      sequences.handle,
      ofWeights,
      ofBiases,
      kernel,
      leftPadding,
      activation === "gelu",
      residual?.handle,
      isBatchInvariant(),
      stream?.handle,
    ),
  );
}
