/** Depthwise convolution over time. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceDepthwiseConvolutionBackward } from "../device/convolution_gradients.js";
import { depthwiseConvolutionOnGpu, onGpu } from "../device/inference.js";
import { sequencesOnGpu, vectorOnGpu } from "../device/placement.js";
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { glu, silu } from "./activation.js";
import { accumulateAll, accumulateParts, wants } from "./gradients.js";
import { isRecording, recordStep } from "./tape.js";

interface DepthwiseBindings {
  depthwiseConvolution(
    x: TensorHandle,
    weight: TensorHandle,
    offsets: TensorHandle,
    leftPadding: number,
    bias: TensorHandle | undefined,
    silu: boolean,
  ): TensorHandle;
  depthwiseConvolutionBackward(
    x: TensorHandle,
    weight: TensorHandle,
    offsets: TensorHandle,
    leftPadding: number,
    gradient: TensorHandle,
    wantsX: boolean,
    wantsWeight: boolean,
    wantsBias: boolean,
  ): (TensorHandle | undefined)[];
}

const native = addon as DepthwiseBindings;

/** What {@link depthwiseConvolution} may be told. */
export interface DepthwiseConvolutionOptions {
  /** (channels); absent means zero */
  bias?: Tensor | undefined;
  /** applied to the result in the same pass */
  activation?: "none" | "silu";
  /** `x` is (frames, 2 * channels), values and their gates: {@link glu} of it is convolved. */
  gated?: boolean;
  /** Zeros before each sequence, 0 .. kernel - 1; the rest of kernel - 1 lies behind it. Default: half, rounded down. */
  leftPadding?: number;
}

/**
 * Convolves each channel with its own kernel along time, within each sequence: as many frames come out as go in, and
 * zeros lie outside ("same" padding: an even kernel of 32 pads 15 before and 16 behind).
 * @param x (frames, channels)
 * @param weight (channels, kernel) or (channels, 1, kernel)
 * @returns (frames, channels)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 *
 * @example
 * const y = depthwiseConvolution(Tensor.zeros([195, 512]), Tensor.zeros([512, 31]), new SequenceOffsets([120, 75]), { activation: "silu" }); // (195, 512)
 */
export function depthwiseConvolution(
  x: Tensor,
  weight: Tensor,
  offsets: SequenceOffsets,
  { bias, activation = "none", leftPadding, gated = false }: DepthwiseConvolutionOptions = {},
): Tensor {
  const left = leftPadding ?? Math.floor((weight.dim(-1) - 1) / 2);
  // While recording the activation is a step of its own: its gradient needs the values before it.
  const recording = isRecording([x, weight, bias]);
  if (gated && (recording || !(x instanceof DeviceTensor) || x.dim(-1) % 4 !== 0)) {
    return depthwiseConvolution(glu(x), weight, offsets, { bias, activation, ...(leftPadding !== undefined && { leftPadding }) });
  }
  if (recording && activation === "silu") {
    return silu(depthwiseConvolution(x, weight, offsets, { bias, ...(leftPadding !== undefined && { leftPadding }) }));
  }
  const fused = activation === "silu";
  if (x instanceof DeviceTensor) {
    return recordStep(
      depthwiseConvolutionOnGpu(x, weight, offsets, { bias, leftPadding: left, silu: fused, gated }),
      [x, weight, bias],
      (gradient, tape) => {
        const wanted = { leftPadding: left, wantsX: wants(x), wantsWeight: wants(weight), wantsBias: wants(bias) };
        const gradients = deviceDepthwiseConvolutionBackward(
          x,
          vectorOnGpu(weight),
          sequencesOnGpu(offsets),
          onGpu(gradient, "gradient"),
          wanted,
        );
        accumulateParts(tape, { x, weight, bias }, gradients);
      },
    );
  }
  const y = new Tensor(native.depthwiseConvolution(x.handle, weight.handle, offsets.tensor.handle, left, bias?.handle, fused));
  return recordStep(y, [x, weight, bias], (gradient, tape) => {
    const gradients = native.depthwiseConvolutionBackward(
      x.handle,
      weight.handle,
      offsets.tensor.handle,
      left,
      gradient.handle,
      wants(x),
      wants(weight),
      wants(bias),
    );
    accumulateAll(tape, [x, weight, bias], gradients);
  });
}
