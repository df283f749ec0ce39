/** Depthwise convolution over the plane of time and frequency. */
import { DeviceTensor } from "../device/device_tensor.js";
import { devicePlaneConvolutionBackward } from "../device/convolution_gradients.js";
import { onGpu, planeConvolutionOnGpu } from "../device/inference.js";
import { sequencesOnGpu, vectorOnGpu } from "../device/placement.js";
import { addon } from "../native/addon.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { accumulateAll, accumulateParts, wants } from "./gradients.js";
import { recordStep } from "./tape.js";

type Operands = [
  x: TensorHandle,
  weight: TensorHandle,
  bias: TensorHandle,
  offsets: TensorHandle,
  outputOffsets: TensorHandle,
  features: number,
  stride: number,
  padding: number,
  relu: boolean,
];

interface PlaneConvolutionBindings {
  planeConvolution(...operands: Operands): TensorHandle;
  planeConvolutionBackward(
    ...operands: [...Operands, y: TensorHandle, gradient: TensorHandle, wantsX: boolean]
  ): (TensorHandle | undefined)[];
}

const native = addon as PlaneConvolutionBindings;

export interface PlaneConvolutionOptions {
  /** Extent of the frequency axis of `x`. */
  features: number;
  /** Of both axes. */
  stride: number;
  /** Zeros on either side of both axes. */
  padding: number;
  /** "none" by default. */
  activation?: "none" | "relu";
}

/** Extent of an axis after convolution; an empty axis stays empty. */
export function convolvedLength(length: number, kernel: number, { stride, padding }: { stride: number; padding: number }): number {
  return length === 0 || length + 2 * padding < kernel ? 0 : Math.floor((length + 2 * padding - kernel) / stride) + 1;
}

/**
 * Convolves each channel of a plane with its own square kernel, within each sequence; when `x` has a single channel, all kernels see
 * that one.
 * @param x (frames, features * channels), or (frames, features): the channels of a feature lie together
 * @param weight (channels, 1, kernel, kernel); on the GPU (channels, kernel * kernel)
 * @param bias (channels)
 * @returns `output` (output frames, output features * channels), where its sequences begin, and its extent along frequency
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 */
export function planeConvolution(
  x: Tensor,
  weight: Tensor,
  bias: Tensor,
  offsets: SequenceOffsets,
  options: PlaneConvolutionOptions,
): { output: Tensor; offsets: SequenceOffsets; features: number } {
  const { features, stride, padding, activation = "none" } = options;
  const kernel = weight instanceof DeviceTensor ? Math.sqrt(weight.dim(-1)) : weight.dim(-1);
  const outputOffsets = new SequenceOffsets(offsets.lengths.map((length) => convolvedLength(length, kernel, options)));
  const outputFeatures = convolvedLength(features, kernel, options);
  if (x instanceof DeviceTensor) {
    const output = planeConvolutionOnGpu(x, weight, bias, offsets, outputOffsets, { kernel, features, stride, padding, activation });
    recordStep(output, [x, weight, bias], (gradient, tape) => {
      const gradients = devicePlaneConvolutionBackward(x, vectorOnGpu(weight), sequencesOnGpu(offsets), onGpu(gradient, "gradient"), {
        features,
        stride,
        padding,
        activation,
        outputs: sequencesOnGpu(outputOffsets),
        y: output,
        wantsX: wants(x),
        wantsWeight: wants(weight),
        wantsBias: wants(bias),
      });
      accumulateParts(tape, { x, weight, bias }, gradients);
    });
    return { output, offsets: outputOffsets, features: outputFeatures };
  }
  const operands: Operands = [
    x.handle,
    weight.handle,
    bias.handle,
    offsets.tensor.handle,
    outputOffsets.tensor.handle,
    features,
    stride,
    padding,
    activation === "relu",
  ];
  const y = new Tensor(native.planeConvolution(...operands));
  const output = recordStep(y, [x, weight, bias], (gradient, tape) => {
    accumulateAll(tape, [x, weight, bias], native.planeConvolutionBackward(...operands, y.handle, gradient.handle, wants(x)));
  });
  return { output, offsets: outputOffsets, features: outputFeatures };
}
