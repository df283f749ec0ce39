/** Low-rank additions to linear layers (LoRA, Hu et al., ICLR 2022). */
import { DeviceTensor } from "../device/device_tensor.js";
import { addLowRankOnGpu, onGpu } from "../device/inference.js";
import { addon } from "../native/addon.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor, TensorHandle } from "../tensor/tensor.js";
import { dropout as dropoutOf, type DropoutOptions } from "./activation.js";
import type { Activation } from "./linear.js";
import { deviceLowRankSum } from "./device_low_rank.js";
import { accumulateProduct, matmul } from "./matmul.js";
import { recordStep } from "./tape.js";

interface LowRankBindings {
  lowRankAdd(
    y: TensorHandle,
    x: TensorHandle,
    offsets: TensorHandle,
    down: readonly TensorHandle[],
    up: readonly TensorHandle[],
    which: readonly number[],
    scale: number,
    activation: Activation,
  ): void;
  matmul(a: TensorHandle, transposeA: boolean, b: TensorHandle, transposeB: boolean, scale: number, sum: TensorHandle): void;
}

const native = addon as LowRankBindings;

/** A product of two thin matrices that is added to a weight: `x·(W + Δ)ᵀ = x·Wᵀ + (x·downᵀ)·up`. */
export interface LowRankFactors {
  /** float32 (rank, in): LoRA's A. */
  readonly down: Tensor;
  /** float32 (rank, out): the transpose of LoRA's B, times alpha / rank. */
  readonly up: Tensor;
}

export interface AddLowRankOptions {
  /** Factor of what is added; 1 by default. */
  readonly scale?: number;
  /** Of the sums; "none" by default. */
  readonly activation?: Activation;
}

/**
 * `y = activation(y + scale * (x·downᵀ)·up)` in place, each run of rows with factors of its own (or none); not
 * differentiable. What a row becomes does not depend on the others.
 *
 * @param y (rows, out), on the GPU if `x` is
 * @param x (rows, in)
 * @param runs where each run of rows begins and ends
 * @param factors of each run; undefined: nothing is added to its rows
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 */
export function addLowRank(
  y: Tensor,
  x: Tensor,
  runs: SequenceOffsets,
  factors: readonly (LowRankFactors | undefined)[],
  { scale = 1, activation = "none" }: AddLowRankOptions = {},
): void {
  if (x instanceof DeviceTensor) return addLowRankOnGpu(y, x, runs, factors, { scale, activation });
  const distinct = [...new Set(factors)].filter((one) => one !== undefined);
  native.lowRankAdd(
    y.handle,
    x.handle,
    runs.tensor.handle,
    distinct.map(({ down }) => down.handle),
    distinct.map(({ up }) => up.handle),
    factors.map((one) => (one === undefined ? -1 : distinct.indexOf(one))),
    scale,
    activation,
  );
}

/**
 * `y + scale * (dropout(x)·downᵀ)·up`, differentiable. The result takes over the memory of `y`, which must not be used
 * afterwards.
 *
 * @param y (rows, out), on the GPU if `x` is
 * @param x (rows, in)
 * @param factors on the GPU, as float32, if they learn and `x` is there
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit, or factors that learn are not where `x` is
 */
export function lowRankSum(
  y: Tensor,
  x: Tensor,
  factors: LowRankFactors,
  { scale = 1, dropout }: { scale?: number; dropout?: DropoutOptions | undefined } = {},
): Tensor {
  const input = dropout && dropout.probability > 0 ? dropoutOf(x, dropout) : x;
  if (input instanceof DeviceTensor) return deviceLowRankSum(onGpu(y, "y"), input, factors, scale);
  const { down, up } = factors;
  const hidden = matmul(input, down, { transposeB: true }); // (rows, rank)
  const sum = y.reshape(y.shape);
  native.matmul(hidden.handle, false, up.handle, false, scale, sum.handle);
  return recordStep(sum, [y, hidden, up], (gradient, tape) => {
    accumulateProduct(tape, hidden, { matrix: gradient }, { matrix: up, transposed: true }, scale);
    accumulateProduct(tape, up, { matrix: hidden, transposed: true }, { matrix: gradient }, scale);
    // Last: `y` takes over the memory of `gradient`, and what is added to it later goes there.
    tape.accumulate(y, gradient.reshape(gradient.shape));
  });
}
