/** The operations of inference, for activations on the GPU: what those of lib/ops call when they are given such. */
import { UsmLiteError } from "../errors.js";
import type { AddLowRankOptions, LowRankFactors } from "../ops/low_rank.js";
import type { PackedMatrix } from "../quant/packed_matrix.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { deviceLinear, type DeviceActivation } from "./device_linear.js";
import type { DeviceSequences } from "./device_sequences.js";
import { deviceColumns, DeviceTensor } from "./device_tensor.js";
import type { DeviceWeight } from "./device_weight.js";
import { deviceAttention, deviceRotateHeads, type DeviceRelativePositions } from "./attention.js";
import {
  deviceDepthwiseConvolution,
  deviceGatherWindows,
  deviceGlu,
  deviceLayerNorm,
  deviceLayerNormTwice,
  devicePlaneConvolution,
} from "./encoder_operations.js";
import { deviceAddLowRank, type DeviceLowRankFactors } from "./low_rank.js";
import {
  biasOnGpu,
  groupedWeightOnGpu,
  placeSequences,
  queryBiasOnGpu,
  sequencesOnGpu,
  stackedBiasOnGpu,
  vectorOnGpu,
  weightOnGpu,
} from "./placement.js";
import { deviceGroupedConvolution, deviceInstanceNorm, deviceSampleWindows } from "./sample_encoder_operations.js";

/** `x` as a tensor on the GPU, for operands that have to be where the first one is. */
export function onGpu(x: Tensor, name: string): DeviceTensor {
  if (x instanceof DeviceTensor) return x;
  throw new UsmLiteError("INVALID_ARGUMENT", `${name} is on the CPU but x is on the GPU; copy it with DeviceTensor.from`);
}

export interface LinearOnGpuOptions {
  bias?: Tensor | undefined;
  activation?: DeviceActivation;
  scale?: number;
  residual?: Tensor | undefined;
  residualScale?: number;
}

export function linearOnGpu(x: DeviceTensor, weight: Tensor | PackedMatrix | DeviceWeight, options: LinearOnGpuOptions): DeviceTensor {
  const placed = weightOnGpu(weight);
  const { bias, residual, activation = "none", scale = 1, residualScale = 1 } = options;
  return deviceLinear(x, placed, {
    bias: biasOnGpu(bias, placed),
    residual: residual && onGpu(residual, "residual"),
    activation,
    scale,
    residualScale,
  });
}

/** The products of one input with several weights that were stacked into `weight`, made in one: (frames, rows) of each layer, columns of one matrix. */
export function stackedLinearOnGpu(
  x: DeviceTensor,
  weight: DeviceWeight,
  layers: readonly { readonly rows: number; readonly bias: Tensor | undefined }[],
): DeviceTensor[] {
  using y = deviceLinear(x, weight, { bias: stackedBiasOnGpu(layers, weight) }); // its columns keep the memory
  let end = 0;
  return layers.map(({ rows }) => deviceColumns(y, end, (end += rows)));
}

/** Factors go to the GPU when they are first needed there, and stay as long as the adapter. */
export function addLowRankOnGpu(
  y: Tensor,
  x: DeviceTensor,
  runs: SequenceOffsets,
  factors: readonly (LowRankFactors | undefined)[],
  options: AddLowRankOptions,
): void {
  const placed = new Map<LowRankFactors | undefined, DeviceLowRankFactors | undefined>([[undefined, undefined]]);
  for (const one of factors) if (one && !placed.has(one)) placed.set(one, { down: vectorOnGpu(one.down), up: vectorOnGpu(one.up) });
  deviceAddLowRank(
    onGpu(y, "y"),
    x,
    runs,
    factors.map((one) => placed.get(one)),
    options,
  );
}

export const layerNormOnGpu = (x: DeviceTensor, weight: Tensor, bias: Tensor | undefined, epsilon: number): DeviceTensor =>
  deviceLayerNorm(x, vectorOnGpu(weight), { bias: bias && vectorOnGpu(bias), epsilon });

/** The second normalization is of what the first gives. */
export function layerNormTwiceOnGpu(
  x: DeviceTensor,
  first: { readonly weight: Tensor; readonly bias?: Tensor | undefined },
  next: { readonly weight: Tensor; readonly bias?: Tensor | undefined },
  epsilon: number,
): [DeviceTensor, DeviceTensor] {
  return deviceLayerNormTwice(x, vectorOnGpu(first.weight), {
    bias: first.bias && vectorOnGpu(first.bias),
    next: { weight: vectorOnGpu(next.weight), bias: next.bias && vectorOnGpu(next.bias) },
    epsilon,
  });
}

/** Where sequences lie after a convolution: worked out on the GPU, where those before it are. */
export function shortenedOnGpu(
  offsets: SequenceOffsets,
  outputs: SequenceOffsets,
  shape: { kernel: number; stride: number; padding: number },
): DeviceSequences {
  const shortened = sequencesOnGpu(offsets).shorten(outputs, shape);
  placeSequences(outputs, shortened);
  return shortened;
}

export const gluOnGpu = (x: DeviceTensor): DeviceTensor => deviceGlu(x);

export function depthwiseConvolutionOnGpu(
  x: DeviceTensor,
  weight: Tensor,
  offsets: SequenceOffsets,
  { bias, leftPadding, silu, gated }: { bias: Tensor | undefined; leftPadding: number; silu: boolean; gated: boolean },
): DeviceTensor {
  return deviceDepthwiseConvolution(x, vectorOnGpu(weight), sequencesOnGpu(offsets), {
    bias: bias && vectorOnGpu(bias),
    leftPadding,
    activation: silu ? "silu" : "none",
    gated,
  });
}

/** Queries and keys are rotated in place: nothing else uses them. As many heads of the query as there are for each of the keys share it. */
export function attentionOnGpu(
  query: DeviceTensor,
  key: Tensor,
  value: Tensor,
  offsets: SequenceOffsets,
  {
    heads,
    keyValueHeads,
    ropeTheta,
    scale,
  }: { heads: number; keyValueHeads: number; ropeTheta: number | undefined; scale: number | undefined },
): DeviceTensor {
  const sequences = sequencesOnGpu(offsets);
  const [keys, values] = [onGpu(key, "key"), onGpu(value, "value")];
  if (ropeTheta !== undefined) rotateOnGpu(query, keys, sequences, { heads, keyValueHeads, theta: ropeTheta });
  return deviceAttention(query, keys, values, sequences, { heads, ...(scale !== undefined && { scale }) });
}

/** In place; queries and keys in one launch where they have as many heads. */
export function rotateOnGpu(
  query: DeviceTensor,
  key: DeviceTensor,
  sequences: DeviceSequences,
  { heads, keyValueHeads, theta, inverse = false }: { heads: number; keyValueHeads: number; theta: number; inverse?: boolean },
): void {
  if (keyValueHeads === heads) return deviceRotateHeads(query, sequences, { heads, theta, inverse, key });
  deviceRotateHeads(query, sequences, { heads, theta, inverse });
  deviceRotateHeads(key, sequences, { heads: keyValueHeads, theta, inverse });
}

/** What {@link relativeAttentionOnGpu} is told of positions. */
export interface RelativePositionsOnGpu {
  readonly positions: Tensor;
  readonly origin: number;
  readonly contentBias: Tensor;
  readonly positionBias: Tensor;
  readonly context: readonly [left: number, right: number] | undefined;
}

export const placedPositions = ({ positions, contentBias, positionBias, ...others }: RelativePositionsOnGpu): DeviceRelativePositions => ({
  positions: onGpu(positions, "positions"),
  contentBias: queryBiasOnGpu(contentBias),
  positionBias: queryBiasOnGpu(positionBias),
  ...others,
});

export function relativeAttentionOnGpu(
  query: DeviceTensor,
  key: Tensor,
  value: Tensor,
  offsets: SequenceOffsets,
  { heads, scale, relative }: { heads: number; scale: number; relative: RelativePositionsOnGpu },
): DeviceTensor {
  const options = { heads, scale, relative: placedPositions(relative) };
  return deviceAttention(query, onGpu(key, "key"), onGpu(value, "value"), sequencesOnGpu(offsets), options);
}

export function planeConvolutionOnGpu(
  x: DeviceTensor,
  weight: Tensor,
  bias: Tensor,
  offsets: SequenceOffsets,
  outputs: SequenceOffsets,
  {
    kernel,
    features,
    stride,
    padding,
    activation,
  }: { kernel: number; features: number; stride: number; padding: number; activation: "none" | "relu" },
): DeviceTensor {
  if (kernel !== 3)
    throw new UsmLiteError("UNSUPPORTED_MODEL", `the kernels of a convolution on the GPU are 3 by 3, not ${kernel} by ${kernel}`);
  return devicePlaneConvolution(x, vectorOnGpu(weight), sequencesOnGpu(offsets), {
    bias: vectorOnGpu(bias),
    features,
    stride,
    padding,
    activation,
    outputs: shortenedOnGpu(offsets, outputs, { kernel, stride, padding }),
  });
}

export const instanceNormOnGpu = (x: DeviceTensor, weight: Tensor, bias: Tensor, offsets: SequenceOffsets, epsilon: number): DeviceTensor =>
  deviceInstanceNorm(x, sequencesOnGpu(offsets), { weight: vectorOnGpu(weight), bias: vectorOnGpu(bias), epsilon });

/** `residual + gelu(convolution(x))`, or `convolution(x)` without a residual. @param weight (out, kernel, in / groups) */
export function groupedConvolutionOnGpu(
  x: DeviceTensor,
  weight: Tensor,
  bias: Tensor,
  offsets: SequenceOffsets,
  { groups, leftPadding, residual }: { groups: number; leftPadding: number; residual?: Tensor },
): DeviceTensor {
  const { weights, biases } = groupedWeightOnGpu(weight, bias, groups);
  return deviceGroupedConvolution(x, weights, sequencesOnGpu(offsets), {
    kernel: weight.dim(1),
    leftPadding,
    biases,
    ...(residual ? { activation: "gelu", residual: onGpu(residual, "residual") } : {}),
  });
}

/** A product of its weight with windows of frames, or of samples where `x` is a vector. */
export function subsamplingConvolutionOnGpu(
  x: DeviceTensor,
  weight: Tensor | PackedMatrix | DeviceWeight,
  bias: Tensor | undefined,
  offsets: SequenceOffsets,
  outputs: SequenceOffsets,
  { kernel, stride, activation }: { kernel: number; stride: number; activation: "none" | "relu" | "gelu" },
): DeviceTensor {
  const gather = x.shape.length === 1 ? deviceSampleWindows : deviceGatherWindows;
  using windows = gather(x, sequencesOnGpu(offsets), {
    kernel,
    stride,
    outputs: shortenedOnGpu(offsets, outputs, { kernel, stride, padding: 0 }),
  });
  return linearOnGpu(windows, weight, { bias, activation });
}
