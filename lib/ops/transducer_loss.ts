/** Loss of transducers (Graves 2012) and token-and-duration transducers (Xu et al., ICML 2023), joint network included. */
import { DeviceTensor } from "../device/device_tensor.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { transducerLossOnGpu } from "./device_transducer_loss.js";
import { accumulateAll } from "./gradients.js";
import { recordStepOf } from "./tape.js";
import { sequenceWeights } from "./transducer_batch.js";

type Operands = [
  frames: TensorHandle,
  offsets: TensorHandle,
  predictions: TensorHandle,
  predictionOffsets: TensorHandle,
  weight: TensorHandle,
  bias: TensorHandle,
  targets: TensorHandle,
  blank: number,
  durations: TensorHandle,
  undernormalization: number,
  teacher: TensorHandle | undefined,
];

interface TransducerLossBindings {
  transducerLoss(...operands: Operands): [losses: TensorHandle, lattice: TensorHandle, divergences: TensorHandle | undefined];
  transducerLossBackward(
    ...operands: [...Operands, losses: TensorHandle, lattice: TensorHandle, factors: TensorHandle, divergenceFactor: number]
  ): TensorHandle[];
}

const native = addon as TransducerLossBindings;

/** What scores a token for a pair of a frame and a prefix: `weight relu(frame + prediction) + bias`. */
export interface Joint {
  /** (vocabulary + durations, joint) */
  readonly weight: Tensor;
  /** (vocabulary + durations) */
  readonly bias: Tensor;
}

/** What {@link transducerLoss} is told of the model. */
export interface TransducerLossOptions {
  /** Label of the blank. */
  readonly blank: number;
  /** Frames that a token or blank may take, scored behind the vocabulary; empty (default): the plain transducer. */
  readonly durations?: readonly number[];
  /** Taken from the logarithm of every token's probability, which favours long durations (sigma of Xu et al.); default 0. */
  readonly undernormalization?: number;
  /** Infinite losses (no path takes exactly the frames there are) become zero with zero gradient; default true. */
  readonly zeroInfinity?: boolean;
  /**
   * `mean`: each loss divided by its number of labels (at least 1), then the mean over the batch; `mean-volume` (default): the sum of
   * losses divided by the number of labels in the batch, as NeMo trains Parakeet; `sum`; or `none`, one loss per sequence.
   */
  readonly reduction?: "mean" | "mean-volume" | "sum" | "none";
  /** {@link TransducerLossResult.lattice} of a teacher for the same sequences and targets. */
  readonly teacher?: Tensor;
}

/** What {@link transducerLoss} gives. */
export interface TransducerLossResult {
  /** float32 (1), or (sequences) without reduction. */
  readonly loss: Tensor;
  /** Number of sequences whose labels no path can say in their frames. */
  readonly infeasible: number;
  /**
   * For each pair of a frame and a prefix the logarithms of the probabilities of blank, next label and durations: what a student's
   * {@link TransducerLossOptions.teacher} is.
   */
  readonly lattice: Tensor;
  /**
   * With a teacher, float32 (1): how far its distributions over blank, next label and anything else (Panchapagesan et al., ICASSP 2021),
   * and over durations, are from those here. The mean over pairs, weighted by the share of the teacher's paths that pass through each,
   * and over sequences. Differentiable.
   */
  readonly divergence?: Tensor;
}

/**
 * `-ln p(targets | frames)`, summed over all paths. Exact; logits of all pairs of frames and prefixes are never stored: they exist for
 * a few thousand pairs of one utterance at a time and are computed again for the gradient, where pairs that less than 1e-9 of the
 * probability of all paths passes through are left out. On the GPU logits are rounded to bfloat16, sums of paths are not, and nothing is waited for.
 *
 * @param frames (frames, joint) projected encoder output
 * @param offsets where each sequence begins and ends in `frames`
 * @param predictions (labels + sequences, joint) projected output of the prediction network after each prefix of each transcript, the
 *   empty one first
 * @param targets labels of each sequence, without blanks; may be empty
 * @throws UsmLiteError INVALID_ARGUMENT for labels outside the vocabulary or equal to the blank, or shapes that do not fit; on the GPU also without
 *   a reduction, and UNSUPPORTED_SPEC for more than 16 durations
 *
 * @example
 * const tape = new Tape();
 * const { loss } = tape.record(() => transducerLoss(frames, offsets, predictions, [[3, 1, 4]], { weight, bias }, { blank: 0 }));
 * tape.backward(loss);
 */
export function transducerLoss(
  frames: Tensor,
  offsets: SequenceOffsets,
  predictions: Tensor,
  targets: readonly (readonly number[])[],
  { weight, bias }: Joint,
  options: TransducerLossOptions,
): TransducerLossResult {
  if (targets.length !== offsets.lengths.length) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `transducerLoss: there are ${offsets.lengths.length} sequences of frames but ${targets.length} targets`,
    );
  }
  if (frames instanceof DeviceTensor) return transducerLossOnGpu(frames, offsets, predictions, targets, { weight, bias }, options);
  const { blank, durations = [], undernormalization = 0, zeroInfinity = true, reduction = "mean-volume", teacher } = options;
  const inputs = [frames, predictions, weight, bias];
  const operands: Operands = [
    frames.handle,
    offsets.tensor.handle,
    predictions.handle,
    new SequenceOffsets(targets.map((labels) => labels.length + 1)).tensor.handle,
    weight.handle,
    bias.handle,
    Tensor.from(Int32Array.from(targets.flat())).handle,
    blank,
    Tensor.from(Int32Array.from(durations)).handle,
    undernormalization,
    teacher?.handle,
  ];
  const [lossHandle, latticeHandle, divergenceHandle] = native.transducerLoss(...operands);
  const losses = new Tensor(lossHandle);
  const lattice = new Tensor(latticeHandle);
  const values = losses.toArray();
  const infeasible = values.filter((loss) => loss === Infinity).length;
  if (zeroInfinity) values.forEach((loss, index) => (values[index] = loss === Infinity ? 0 : loss));
  const weights = sequenceWeights(targets, reduction);
  const output =
    reduction === "none"
      ? Tensor.from(values)
      : Tensor.from([values.reduce((sum, loss, index) => sum + loss * (weights[index] as number), 0)]);
  const divergence = divergenceHandle && Tensor.from([mean(new Tensor(divergenceHandle).toArray())]);
  recordStepOf(divergence ? [output, divergence] : [output], inputs, ([lossGradient, divergenceGradient], tape) => {
    const upstream = lossGradient?.toArray();
    const factors = Tensor.from(weights.map((share, index) => share * (upstream?.[reduction === "none" ? index : 0] ?? 0)));
    const divergenceFactor = (divergenceGradient?.toArray()[0] ?? 0) / targets.length;
    accumulateAll(
      tape,
      inputs,
      native.transducerLossBackward(...operands, losses.handle, lattice.handle, factors.handle, divergenceFactor),
    );
  });
  return { loss: output, infeasible, lattice, ...(divergence ? { divergence } : {}) };
}

const mean = (values: Float32Array): number => values.reduce((sum, value) => sum + value, 0) / values.length;
