/** Connectionist temporal classification (Graves et al., ICML 2006). */
import { DeviceTensor } from "../device/device_tensor.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { ctcLossOnGpu } from "./device_ctc_loss.js";
import { activeTape, recordStep } from "./tape.js";

interface CtcLossBindings {
  ctcLoss(
    logits: TensorHandle,
    offsets: TensorHandle,
    targets: TensorHandle,
    targetOffsets: TensorHandle,
    blank: number,
    wantsGradient: boolean,
  ): [TensorHandle, TensorHandle | undefined];
  scaleSequences(x: TensorHandle, offsets: TensorHandle, factors: TensorHandle): void;
}

const native = addon as CtcLossBindings;

/** What {@link ctcLoss} may be told. */
export interface CtcLossOptions {
  /** Label of the blank; default 0. */
  readonly blank?: number;
  /** Infinite losses (no alignment fits into the frames) become zero with zero gradient; default true. */
  readonly zeroInfinity?: boolean;
  /**
   * `mean` (default): each loss divided by its number of labels (at least 1), then the mean over the batch, as
   * `torch.nn.functional.ctc_loss`; `sum`; or `none`, one loss per sequence.
   */
  readonly reduction?: "mean" | "sum" | "none";
}

/** What {@link ctcLoss} gives. */
export interface CtcLossResult {
  /** float32 (1), or (sequences) without reduction. */
  readonly loss: Tensor;
  /** Number of sequences with too few frames for their labels. */
  readonly infeasible: number;
}

/**
 * -log p(targets | logits), summed over all alignments, with log-softmax included. The gradient is exact and computed
 * together with the loss: softmax minus posterior.
 *
 * @param logits (frames, vocabulary), before softmax, finite; a sequence with other values has a NaN loss and gradient
 * @param offsets where each sequence begins and ends in `logits`
 * @param targets labels of each sequence, without blanks; may be empty
 * @throws UsmLiteError INVALID_ARGUMENT for labels outside the vocabulary or equal to the blank, or when the number of
 *   targets differs from that of the sequences
 *
 * @example
 * const { loss } = ctcLoss(logits, new SequenceOffsets([120, 75]), [[8, 5, 12, 12, 15], [2, 25, 5]]);
 */
export function ctcLoss(
  logits: Tensor,
  offsets: SequenceOffsets,
  targets: readonly (readonly number[])[],
  options: CtcLossOptions = {},
): CtcLossResult {
  const { blank = 0, zeroInfinity = true, reduction = "mean" } = options;
  if (targets.length !== offsets.lengths.length) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `ctcLoss: there are ${offsets.lengths.length} sequences of logits but ${targets.length} targets`,
    );
  }
  if (logits instanceof DeviceTensor) return ctcLossOnGpu(logits, offsets, targets, options);
  const targetOffsets = new SequenceOffsets(targets.map((labels) => labels.length));
  const labels = Tensor.from(Int32Array.from(targets.flat()));
  const [lossHandle, gradientHandle] = native.ctcLoss(
    logits.handle,
    offsets.tensor.handle,
    labels.handle,
    targetOffsets.tensor.handle,
    blank,
    activeTape() !== undefined && logits.requiresGrad,
  );
  labels.dispose();
  targetOffsets.tensor.dispose();

  const lossesTensor = new Tensor(lossHandle);
  const losses = lossesTensor.toArray();
  lossesTensor.dispose();
  const infeasible = losses.filter((loss) => loss === Infinity).length;
  if (zeroInfinity) losses.forEach((loss, index) => (losses[index] = loss === Infinity ? 0 : loss));
  const weights = targets.map((target) => (reduction === "mean" ? 1 / (Math.max(target.length, 1) * targets.length) : 1));
  const output =
    reduction === "none"
      ? Tensor.from(losses)
      : Tensor.from([losses.reduce((sum, loss, index) => sum + loss * (weights[index] as number), 0)]);
  if (!gradientHandle) return { loss: output, infeasible };

  const logitsGradient = new Tensor(gradientHandle);
  const loss = recordStep(output, [logits], (gradient, tape) => {
    const upstream = gradient.toArray();
    const factors = Tensor.from(weights.map((weight, index) => weight * (upstream[reduction === "none" ? index : 0] as number)));
    native.scaleSequences(logitsGradient.handle, offsets.tensor.handle, factors.handle);
    tape.accumulate(logits, logitsGradient);
  });
  return { loss, infeasible };
}
