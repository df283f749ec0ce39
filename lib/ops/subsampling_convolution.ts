/** The strided convolution that shortens a sequence of frames before the encoder. */
import { DeviceTensor } from "../device/device_tensor.js";
import type { DeviceWeight } from "../device/device_weight.js";
import { deviceGatherWindows } from "../device/encoder_operations.js";
import { deviceGatherWindowsBackward } from "../device/convolution_gradients.js";
import { onGpu, shortenedOnGpu, subsamplingConvolutionOnGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import { addon } from "../native/addon.js";
import type { PackedMatrix, PackedMatrixHandle } from "../quant/packed_matrix.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { linear, withoutGelu } from "./linear.js";
import { linearGradient } from "./linear_gradient.js";
import { checkOnCpu } from "./packed_linear.js";
import { activeTape, recordStep } from "./tape.js";

interface SubsamplingConvolutionBindings {
  subsamplingConvolution(
    x: TensorHandle,
    weight: TensorHandle,
    bias: TensorHandle | undefined,
    offsets: TensorHandle,
    outputOffsets: TensorHandle,
    stride: number,
    activation: "none" | "relu",
  ): TensorHandle;
  packedSubsamplingConvolution(
    x: TensorHandle,
    weight: PackedMatrixHandle,
    bias: TensorHandle | undefined,
    offsets: TensorHandle,
    outputOffsets: TensorHandle,
    stride: number,
    activation: "none" | "relu",
  ): TensorHandle;
  subsamplingConvolutionInputGradient(
    gradient: TensorHandle,
    weight: TensorHandle,
    offsets: TensorHandle,
    outputOffsets: TensorHandle,
    stride: number,
  ): TensorHandle;
  subsamplingConvolutionWeightGradient(
    gradient: TensorHandle,
    x: TensorHandle,
    offsets: TensorHandle,
    outputOffsets: TensorHandle,
    stride: number,
    kernel: number,
  ): TensorHandle;
}

const native = addon as SubsamplingConvolutionBindings;

/** What {@link subsamplingConvolution} may be told. */
export interface SubsamplingConvolutionOptions {
  /** Input frames per output frame. */
  stride: number;
  /** "none" by default. `gelu` is there on the GPU alone. */
  activation?: "none" | "relu" | "gelu";
}

/**
 * Output frames of a sequence of `length` frames: `floor((length - kernel) / stride) + 1`, or 0 if it is too short.
 *
 * @example
 * subsampledLength(100, 5, 2); // 48
 */
export function subsampledLength(length: number, kernel: number, stride: number): number {
  return length < kernel ? 0 : Math.floor((length - kernel) / stride) + 1;
}

const subsampledOffsets = (offsets: SequenceOffsets, kernel: number, stride: number): SequenceOffsets =>
  new SequenceOffsets(offsets.lengths.map((length) => subsampledLength(length, kernel, stride)));

/**
 * Valid (unpadded) convolution along the frames of every sequence of a packed batch.
 *
 * @param x (frames, in); samples on the GPU are a vector
 * @param weight (out, in, kernel), as Conv1d of PyTorch stores it; on the GPU (out, kernel * in)
 * @param bias (out)
 * @returns `output` (output frames, out) and where its sequences begin
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 *
 * @example
 * const frames = Tensor.zeros([100, 128]);
 * const kernels = Tensor.zeros([256, 128, 5]);
 * const { output } = subsamplingConvolution(frames, kernels, undefined, new SequenceOffsets([60, 40]), { stride: 2, activation: "relu" }); // (46, 256)
 */
export function subsamplingConvolution(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  offsets: SequenceOffsets,
  options: SubsamplingConvolutionOptions,
): { output: Tensor; offsets: SequenceOffsets } {
  const { stride, activation = "none" } = options;
  if (x instanceof DeviceTensor && weight instanceof DeviceTensor) {
    const { windows, offsets: outputOffsets } = windowsOf(x, weight, offsets, stride);
    const output = linear(windows, weight, { bias, activation });
    if (!activeTape()) windows.dispose(); // they are large
    return { output, offsets: outputOffsets };
  }
  const kernel = weight.dim(-1);
  const outputOffsets = subsampledOffsets(offsets, kernel, stride);
  if (x instanceof DeviceTensor) {
    const output = subsamplingConvolutionOnGpu(x, weight, bias, offsets, outputOffsets, { kernel, stride, activation });
    return { output, offsets: outputOffsets };
  }
  const slope = withoutGelu(activation);
  const output = new Tensor(
    native.subsamplingConvolution(x.handle, weight.handle, bias?.handle, offsets.tensor.handle, outputOffsets.tensor.handle, stride, slope),
  );
  recordStep(output, [x, weight, bias], (gradient, tape) => {
    const { sumGradient, biasGradient } = linearGradient(gradient, {
      activation: slope,
      preActivation: output, // as long as relu is the only choice, the output tells its slope
      scale: 1,
      dropout: undefined,
      wantBias: bias?.requiresGrad ?? false,
    });
    const where = [offsets.tensor.handle, outputOffsets.tensor.handle, stride] as const;
    if (bias && biasGradient) tape.accumulate(bias, biasGradient);
    if (x.requiresGrad) {
      const xGradient = native.subsamplingConvolutionInputGradient(sumGradient.handle, weight.handle, ...where);
      tape.accumulate(x, new Tensor(xGradient));
    }
    if (weight.requiresGrad) {
      const weightGradient = native.subsamplingConvolutionWeightGradient(sumGradient.handle, x.handle, ...where, kernel);
      tape.accumulate(weight, new Tensor(weightGradient));
    }
  });
  return { output, offsets: outputOffsets };
}

/**
 * The windows of frames that a weight (out, kernel * in) multiplies on the GPU, (output frames, kernel * in), differentiable; and where the
 * sequences lie in them.
 */
export function windowsOf(
  x: DeviceTensor,
  weight: Tensor,
  offsets: SequenceOffsets,
  stride: number,
): { windows: Tensor; offsets: SequenceOffsets } {
  const kernel = Math.floor(weight.dim(1) / x.dim(1));
  const outputOffsets = subsampledOffsets(offsets, kernel, stride);
  const outputs = shortenedOnGpu(offsets, outputOffsets, { kernel, stride, padding: 0 });
  const sequences = sequencesOnGpu(offsets);
  const windows = recordStep(deviceGatherWindows(x, sequences, { kernel, stride, outputs }), [x], (gradient, tape) => {
    tape.accumulate(x, deviceGatherWindowsBackward(onGpu(gradient, "gradient"), sequences, { kernel, stride, outputs }));
  });
  return { windows, offsets: outputOffsets };
}

/**
 * {@link subsamplingConvolution} with a packed weight (out, kernel * in); not differentiable. Integer weights are
 * multiplied by windows of `x` rounded to 255 steps of their largest magnitude.
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit, TENSOR_RELEASED when the weight was disposed of
 *
 * @example
 * using packed = PackedMatrix.from(packWeight(Tensor.zeros([256, 5 * 128]), "int8"));
 * const { output } = packedSubsamplingConvolution(Tensor.zeros([100, 128]), packed, undefined, new SequenceOffsets([60, 40]), { stride: 2 }); // (46, 256)
 */
export function packedSubsamplingConvolution(
  x: Tensor,
  weight: PackedMatrix | DeviceWeight,
  bias: Tensor | undefined,
  offsets: SequenceOffsets,
  options: SubsamplingConvolutionOptions,
): { output: Tensor; offsets: SequenceOffsets } {
  const { stride, activation = "none" } = options;
  const kernel = Math.floor(weight.columns / x.dim(1));
  const outputOffsets = subsampledOffsets(offsets, kernel, stride);
  if (x instanceof DeviceTensor) {
    const output = subsamplingConvolutionOnGpu(x, weight, bias, offsets, outputOffsets, { kernel, stride, activation });
    return { output, offsets: outputOffsets };
  }
  checkOnCpu(weight);
  const output = native.packedSubsamplingConvolution(
    x.handle,
    weight.handle,
    bias?.handle,
    offsets.tensor.handle,
    outputOffsets.tensor.handle,
    stride,
    withoutGelu(activation),
  );
  return { output: new Tensor(output), offsets: outputOffsets };
}
