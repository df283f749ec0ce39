/** The operations of inference, for activations on the GPU: what those of lib/ops call when they are given such. */
import { UsmLiteError } from "../errors.js";
import type { PackedMatrix } from "../quant/packed_matrix.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { deviceLinear, type DeviceActivation } from "./device_linear.js";
import { DeviceTensor } from "./device_tensor.js";
import {
  deviceAttention,
  deviceDepthwiseConvolution,
  deviceGatherWindows,
  deviceGlu,
  deviceLayerNorm,
  deviceRotateHeads,
} from "./encoder_operations.js";
import { biasOnGpu, sequencesOnGpu, vectorOnGpu, weightOnGpu } from "./placement.js";

/** `x` as a tensor on the GPU, for operands that have to be where the first one is. */
function onGpu(x: Tensor, name: string): DeviceTensor {
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

export function linearOnGpu(x: DeviceTensor, weight: Tensor | PackedMatrix, options: LinearOnGpuOptions): DeviceTensor {
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

export const layerNormOnGpu = (x: DeviceTensor, weight: Tensor, bias: Tensor | undefined, epsilon: number): DeviceTensor =>
  deviceLayerNorm(x, vectorOnGpu(weight), { bias: bias && vectorOnGpu(bias), epsilon });

export const gluOnGpu = (x: DeviceTensor): DeviceTensor => deviceGlu(x);

export function depthwiseConvolutionOnGpu(
  x: DeviceTensor,
  weight: Tensor,
  offsets: SequenceOffsets,
  { bias, leftPadding, silu }: { bias: Tensor | undefined; leftPadding: number; silu: boolean },
): DeviceTensor {
  return deviceDepthwiseConvolution(x, vectorOnGpu(weight), sequencesOnGpu(offsets), {
    bias: bias && vectorOnGpu(bias),
    leftPadding,
    activation: silu ? "silu" : "none",
  });
}

/** Queries and keys are rotated in place: nothing else uses them. */
export function attentionOnGpu(
  query: DeviceTensor,
  key: Tensor,
  value: Tensor,
  offsets: SequenceOffsets,
  { heads, keyValueHeads, ropeTheta, scale }: { heads: number; keyValueHeads: number; ropeTheta: number | undefined; scale: number | undefined },
): DeviceTensor {
  if (keyValueHeads !== heads) {
    throw new UsmLiteError("UNSUPPORTED_MODEL", `attention on the GPU needs a key for each of ${heads} heads, not ${keyValueHeads}`);
  }
  const sequences = sequencesOnGpu(offsets);
  const [keys, values] = [onGpu(key, "key"), onGpu(value, "value")];
  if (ropeTheta !== undefined) for (const x of [query, keys]) deviceRotateHeads(x, sequences, { heads, theta: ropeTheta });
  return deviceAttention(query, keys, values, sequences, { heads, ...(scale !== undefined && { scale }) });
}

/** A product of its weight with windows of frames. */
export function subsamplingConvolutionOnGpu(
  x: DeviceTensor,
  weight: Tensor | PackedMatrix,
  bias: Tensor | undefined,
  offsets: SequenceOffsets,
  outputs: SequenceOffsets,
  { kernel, stride, activation }: { kernel: number; stride: number; activation: "none" | "relu" },
): DeviceTensor {
  using windows = deviceGatherWindows(x, sequencesOnGpu(offsets), { kernel, stride, outputs: sequencesOnGpu(outputs) });
  return linearOnGpu(windows, weight, { bias, activation });
}
