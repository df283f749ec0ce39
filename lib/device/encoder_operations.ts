/**
 * What an encoder does on the GPU besides products with weights. Frames are 16-bit floats, `bfloat16` or `float16`;
 * arithmetic inside an operation is in float32. Operations return before the GPU has
 * done them, and throw UsmLiteError INVALID_ARGUMENT when shapes or types do not fit, UNSUPPORTED_SPEC for sizes that the
 * kernels do not have.
 */
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface EncoderBindings {
  deviceLayerNorm(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    bias: DeviceTensorHandle | undefined,
    epsilon: number,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceLayerNormTwice(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    bias: DeviceTensorHandle | undefined,
    nextWeight: DeviceTensorHandle,
    nextBias: DeviceTensorHandle | undefined,
    epsilon: number,
    stream?: StreamHandle,
  ): [DeviceTensorHandle, DeviceTensorHandle];
  deviceLogSoftmax(x: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceGlu(x: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceDepthwiseConvolution(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    bias: DeviceTensorHandle | undefined,
    leftPadding: number,
    silu: boolean,
    gated: boolean,
    sequences: DeviceSequencesHandle,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceGatherWindows(
    x: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    kernel: number,
    stride: number,
    outputs: DeviceSequencesHandle,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  devicePlaneConvolution(
    x: DeviceTensorHandle,
    weight: DeviceTensorHandle,
    bias: DeviceTensorHandle,
    features: number,
    stride: number,
    padding: number,
    relu: boolean,
    sequences: DeviceSequencesHandle,
    outputs: DeviceSequencesHandle,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceSwapColumnAxes(x: DeviceTensorHandle, outer: number, stream?: StreamHandle): DeviceTensorHandle;
}

const native = (): EncoderBindings => gpuAddon<EncoderBindings>();

/**
 * `(x - mean) / sqrt(variance + epsilon) * weight + bias` over the values of each frame (Ba, Kiros, Hinton 2016).
 * @param x (frames, hidden)
 * @param weight float32 (hidden)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const y = deviceLayerNorm(x, scale, { epsilon: 1e-6 });
 */
export function deviceLayerNorm(
  x: DeviceTensor,
  weight: DeviceTensor,
  { bias, epsilon, stream }: { bias?: DeviceTensor | undefined; epsilon: number; stream?: DeviceStream | undefined },
): DeviceTensor {
  return new DeviceTensor(native().deviceLayerNorm(x.handle, weight.handle, bias?.handle, epsilon, stream?.handle));
}

/** What {@link deviceLayerNormTwice} is told. */
export interface DeviceLayerNormTwiceOptions {
  bias?: DeviceTensor | undefined;
  /** Of the second normalization. */
  next: { readonly weight: DeviceTensor; readonly bias?: DeviceTensor | undefined };
  /** Of both. */
  epsilon: number;
  stream?: DeviceStream | undefined;
}

/**
 * {@link deviceLayerNorm} of `x` and, to the same bits, that of its result, in one launch: of the end of a block and the beginning of the
 * next.
 * @param x (frames, hidden)
 * @param weight float32 (hidden)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const [hidden, normalized] = deviceLayerNormTwice(x, scale, { next: { weight: scale }, epsilon: 1e-6 });
 */
export function deviceLayerNormTwice(
  x: DeviceTensor,
  weight: DeviceTensor,
  { bias, next, epsilon, stream }: DeviceLayerNormTwiceOptions,
): [DeviceTensor, DeviceTensor] {
  const [y, z] = native().deviceLayerNormTwice(
    x.handle,
    weight.handle,
    bias?.handle,
    next.weight.handle,
    next.bias?.handle,
    epsilon,
    stream?.handle,
  );
  return [new DeviceTensor(y), new DeviceTensor(z)];
}

/**
 * `x - log(sum(exp(x)))` over each row: logarithms of probabilities, such as a CTC decoder takes.
 * @param x (frames, classes); returns float32 of that shape
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const logProbabilities = deviceLogSoftmax(logits).toArray();
 */
export function deviceLogSoftmax(x: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceLogSoftmax(x.handle, stream?.handle));
}

/**
 * Gated linear unit (Dauphin et al. 2017): the first half of the columns times the sigmoid of the second.
 * {@link deviceLinear} with a weight made for "glu" does this within the product.
 * @param x (frames, 2 * channels); returns (frames, channels)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const gated = deviceGlu(DeviceTensor.zeros([120, 1024])); // (120, 512)
 */
export function deviceGlu(x: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceGlu(x.handle, stream?.handle));
}

/** What {@link deviceDepthwiseConvolution} may be told. */
export interface DeviceDepthwiseConvolutionOptions {
  /** float32 (channels) */
  bias?: DeviceTensor | undefined;
  /** Zeros before each sequence; by default as many as make the output as long as the input, one less on the left for even kernels. */
  leftPadding?: number;
  activation?: "none" | "silu";
  /** `x` is (frames, 2 * channels), channels even: values and their gates, of which {@link deviceGlu} comes first, to the same bits. */
  gated?: boolean;
  stream?: DeviceStream | undefined;
}

/**
 * `y[t, c] = activation(bias[c] + sum over k of weight[c, k] * x[t + k - leftPadding, c])`, zeros outside a sequence.
 * @param x (frames, channels)
 * @param weight float32 (channels, kernel), at most 128 frames
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const y = deviceDepthwiseConvolution(x, kernels, sequences, { activation: "silu" });
 */
export function deviceDepthwiseConvolution(
  x: DeviceTensor,
  weight: DeviceTensor,
  sequences: DeviceSequences,
  options: DeviceDepthwiseConvolutionOptions = {},
): DeviceTensor {
  const { bias, activation = "none", gated = false, stream } = options;
  const leftPadding = options.leftPadding ?? Math.floor(((weight.shape[1] ?? 1) - 1) / 2);
  return new DeviceTensor(
    native().deviceDepthwiseConvolution(
      x.handle,
      weight.handle,
      bias?.handle,
      leftPadding,
      activation === "silu",
      gated,
      sequences.handle,
      stream?.handle,
    ),
  );
}

/**
 * The windows of a strided convolution as rows, for {@link deviceLinear} with its weight (out, kernel * channels).
 * @param x (frames, channels), channels a multiple of 8
 * @param outputs windows of each sequence; none may reach beyond it
 * @returns (windows, kernel * channels)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit; UNSUPPORTED_SPEC for channels that are no multiple of 8
 *
 * @example
 * const outputs = new DeviceSequences(new SequenceOffsets(sequences.lengths.map((length) => subsampledLength(length, 5, 2))));
 * const windows = deviceGatherWindows(x, sequences, { kernel: 5, stride: 2, outputs });
 */
export function deviceGatherWindows(
  x: DeviceTensor,
  sequences: DeviceSequences,
  { kernel, stride, outputs, stream }: { kernel: number; stride: number; outputs: DeviceSequences; stream?: DeviceStream | undefined },
): DeviceTensor {
  return new DeviceTensor(native().deviceGatherWindows(x.handle, sequences.handle, kernel, stride, outputs.handle, stream?.handle));
}

/** What {@link devicePlaneConvolution} is told. */
export interface DevicePlaneConvolutionOptions {
  /** float32 (channels) */
  bias: DeviceTensor;
  /** Extent of the frequency axis of `x`. */
  features: number;
  /** Of both axes. */
  stride: number;
  /** Zeros on either side of both axes, 0 to 2. */
  padding: number;
  activation?: "none" | "relu";
  /** What {@link DeviceSequences.shorten} gives for this convolution. */
  outputs: DeviceSequences;
  stream?: DeviceStream | undefined;
}

/**
 * Convolves each channel of the plane of time and frequency with its own kernel of 3 by 3, within each sequence; when `x` has a
 * single channel, all kernels see that one.
 * @param x (frames, features * channels), the channels of a feature together, or (frames, features)
 * @param weight float32 (channels, 9): time by frequency; channels a multiple of 8
 * @returns (output frames, output features * channels)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit; UNSUPPORTED_SPEC for channels that are no multiple of 8
 *
 * @example
 * const halves = new SequenceOffsets(sequences.lengths.map((length) => Math.ceil(length / 2)));
 * const outputs = sequences.shorten(halves, { kernel: 3, stride: 2, padding: 1 });
 * const y = devicePlaneConvolution(spectrogram, planeKernels, sequences, { bias: planeBias, features: 80, stride: 2, padding: 1, outputs });
 */
export function devicePlaneConvolution(
  x: DeviceTensor,
  weight: DeviceTensor,
  sequences: DeviceSequences,
  { bias, features, stride, padding, activation = "none", outputs, stream }: DevicePlaneConvolutionOptions,
): DeviceTensor {
  return new DeviceTensor(
    native().devicePlaneConvolution(
      x.handle,
      weight.handle,
      bias.handle,
      features,
      stride,
      padding,
      activation === "relu",
      sequences.handle,
      outputs.handle,
      stream?.handle,
    ),
  );
}

/**
 * (rows, outer * inner) as (rows, inner * outer): each row is a matrix that is transposed.
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const y = deviceSwapColumnAxes(DeviceTensor.zeros([50, 20 * 256]), 20); // rows of 256 * 20
 */
export function deviceSwapColumnAxes(x: DeviceTensor, outer: number, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceSwapColumnAxes(x.handle, outer, stream?.handle));
}
