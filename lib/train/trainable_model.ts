/** What the trainer asks of a model: its parameters, its buffers and the loss of one batch. */
import type { SpecAugmentMasks } from "../data/spec_augment.js";
import type { NormReaders } from "../nn/norm_readers.js";
import type { RandomStream } from "../ops/random_stream.js";
import type { IntegerWeight } from "../ops/integer_linear.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";

/** Utterances of one batch, packed: no padding. */
export interface TrainingBatch {
  /** float32 (frames, mel bins): log-mel features of all utterances, one after another. */
  readonly features: Tensor;
  /** Where each utterance begins and ends in `features`. */
  readonly offsets: SequenceOffsets;
  /** What is yet to be hidden of the features of each utterance, which models are not given: the trainer sees to it. Absent: nothing. */
  readonly masks?: readonly SpecAugmentMasks[];
  /**
   * Token ids of each utterance's transcript, without blanks. Of sequence-to-sequence models all that the decoder writes, from the token
   * that begins everything to the one that ends the text.
   */
  readonly targets: readonly (readonly number[])[];
  /** What a second loss on an inner layer is to align with instead of `targets`: phones, for instance. */
  readonly innerTargets?: readonly (readonly number[])[];
  /** Share of each label's probability that is spread over all tokens, in sequence-to-sequence models; default 0. */
  readonly labelSmoothing?: number;
  /** The features are not augmented, and the model should not drop anything either: easy batches at the beginning. */
  readonly plain?: boolean;
  /** Seconds of audio in the batch, for throughput. */
  readonly audioSeconds: number;
  /** Of a block that is trained alone: `features` are the hidden frames that it is given, and these those that it is to put out. */
  readonly wanted?: Tensor;
  /** Of a decoder's block that is trained alone: the frames that it looks at. */
  readonly memory?: HiddenStates;
}

/** Hidden states of several items, packed. */
export interface HiddenStates {
  /** (hidden frames, hidden), or (tokens, hidden) */
  readonly hidden: Tensor;
  /** Where each item lies in `hidden`. */
  readonly offsets: SequenceOffsets;
}

/**
 * Maps a stored linear weight to the one the forward pass multiplies by, differentiably: `fakeQuantize(mask * w)` in
 * quantization-aware training. The model calls it for every name in {@link TrainableModel.linearWeights}.
 */
export type WeightTransform = (name: string, weight: Tensor) => Tensor;

/** What one forward pass may depend on besides weights and batch. */
export interface TrainingContext {
  /** True while training: dropout is active and batch norm uses (and updates) batch statistics. */
  readonly training: boolean;
  /** Seeds for dropout, layer drop and other noise; saved with checkpoints. */
  readonly random: RandomStream;
  /** Number of optimizer steps taken before this one. */
  readonly step: number;
  /** Absent: weights are used as they are. */
  readonly transformWeight?: WeightTransform;
  /** The packed form of a transformed weight, where a layer shall multiply in whole numbers, as inference does. */
  readonly packedWeight?: (name: string, transformed: Tensor) => IntegerWeight | undefined;
  /** Told what each linear layer is about to multiply: the name of its weight and x (frames, in). */
  readonly observeInput?: (name: string, x: Tensor) => void;
  /** Whether {@link BatchLoss.outputs} shall have the lattice. */
  readonly keepLattice?: boolean;
  /** Lattice of a teacher: {@link BatchLoss.outputs} has the divergence from it. */
  readonly teacherLattice?: Tensor;
  /** Whether {@link BatchLoss.outputs} shall have the hidden frames after each block. */
  readonly keepHidden?: boolean;
  /** Batch normalization trains with its running statistics and leaves them as they are. */
  readonly keepStatistics?: boolean;
}

/** What a forward pass gave besides its loss, on the same tape: for losses that compare it with something else. */
export interface ForwardOutputs {
  /** (hidden frames, vocabulary); absent for models that score tokens by more than the frame. */
  readonly logits?: Tensor;
  /** Where each utterance lies in `logits` and `hidden`. */
  readonly offsets: SequenceOffsets;
  /** (hidden frames, hidden) after each block, with {@link TrainingContext.keepHidden}; undefined where a block was dropped. */
  readonly hidden?: readonly (Tensor | undefined)[];
  /** Of transducers, with {@link TrainingContext.keepLattice}: see {@link TransducerLossResult}. */
  readonly lattice?: Tensor;
  /** Of transducers, float32 (1), with {@link TrainingContext.teacherLattice}. */
  readonly divergence?: Tensor;
}

/** The loss of one batch. */
export interface BatchLoss {
  /** float32 (1), recorded on the active tape. */
  readonly loss: Tensor;
  /** Utterances left out because their transcript is longer than any alignment of their frames allows. */
  readonly infeasible?: number;
  readonly outputs?: ForwardOutputs;
}

/** Blocks, each given what the one before put out, that can be run, and so trained, one at a time: those of an encoder, or of a decoder. */
export interface BlockStack {
  /** What the names of each block's parameters begin with, in the order of the blocks: "encoder.layers.0." */
  readonly prefixes: readonly string[];
  /** What the first block is given; of a decoder also `memory`, the frames that all blocks look at. */
  before(batch: TrainingBatch, context: TrainingContext): HiddenStates & { readonly memory?: HiddenStates };
  /**
   * What block `index` makes of hidden frames.
   * @param batch its features are (hidden frames, hidden), its memory what `before` gave; returns the same shape
   */
  forward(index: number, batch: TrainingBatch, context: TrainingContext): Tensor;
}

/** A model that {@link Trainer} can train. */
export interface TrainableModel {
  /** All trainable tensors by checkpoint name, in a fixed order; {@link Trainer} sets their `requiresGrad`. */
  parameters(): ReadonlyMap<string, Tensor>;
  /** Those of them that get no gradient, and stay as they are: what fine-tuning customarily keeps. Absent: none. */
  keptParameters?(): readonly string[];
  /** Tensors the forward pass updates in place (running statistics of batch norm), by checkpoint name. */
  buffers(): ReadonlyMap<string, Tensor>;
  /** Names among {@link TrainableModel.parameters} that pruning and quantization apply to. */
  linearWeights(): readonly string[];
  /** Those of them that are compressed unless a recipe says otherwise. Absent: all. */
  blockWeights?(): readonly string[];
  /** The loss of `batch`, inside an open tape when training. */
  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss;
  /** What {@link TrainableModel.loss} gives as outputs, for models where the loss itself costs much. */
  outputs?(batch: TrainingBatch, context: TrainingContext): ForwardOutputs;
  /** The encoder, then the decoder where that has blocks. Absent: the blocks cannot be trained one at a time. */
  blockStacks?(): readonly BlockStack[];
  /** The norms in blocks whose output goes to linear layers alone, in the order of the blocks. Absent: it is not known. */
  normReaders?(): readonly NormReaders[];
  /** Called after parameters changed by other means than a training step: averaged or restored ones. */
  weightsChanged?(): void;
}
