/** Convolution over time in groups of channels. */
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { accumulateAll, wants } from "./gradients.js";
import { recordStep } from "./tape.js";

interface GroupedConvolutionBindings {
  groupedConvolution(
    x: TensorHandle,
    weight: TensorHandle,
    bias: TensorHandle | undefined,
    offsets: TensorHandle,
    groups: number,
    leftPadding: number,
  ): TensorHandle;
  groupedConvolutionBackward(
    x: TensorHandle,
    weight: TensorHandle,
    bias: TensorHandle | undefined,
    offsets: TensorHandle,
    groups: number,
    leftPadding: number,
    gradient: TensorHandle,
    wantsX: boolean,
    wantsWeight: boolean,
  ): (TensorHandle | undefined)[];
}

const native = addon as GroupedConvolutionBindings;

export interface GroupedConvolutionOptions {
  groups: number;
  /** Zeros before each sequence, 0 .. kernel - 1; the rest of kernel - 1 lies behind it. */
  leftPadding: number;
}

/**
 * As many frames come out as go in; output channel o sees the input channels of its group.
 * @param x (frames, in)
 * @param weight (out, kernel, in / groups): tap after tap, as windows of frames lie in memory
 * @param bias (out)
 * @returns (frames, out)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 */
export function groupedConvolution(
  x: Tensor,
  weight: Tensor,
  bias: Tensor | undefined,
  offsets: SequenceOffsets,
  { groups, leftPadding }: GroupedConvolutionOptions,
): Tensor {
  const y = new Tensor(native.groupedConvolution(x.handle, weight.handle, bias?.handle, offsets.tensor.handle, groups, leftPadding));
  return recordStep(y, [x, weight, bias], (gradient, tape) => {
    const gradients = native.groupedConvolutionBackward(
      x.handle,
      weight.handle,
      bias?.handle,
      offsets.tensor.handle,
      groups,
      leftPadding,
      gradient.handle,
      wants(x),
      wants(weight) || wants(bias),
    );
    accumulateAll(tape, [x, weight, bias], gradients);
  });
}
