/** What changes a training run beyond its model: pruning, quantization, distillation, adapters. */
import type { RandomStream } from "../ops/random_stream.js";
import type { LayerCoding } from "../quant/layer_coding.js";
import type { WeightSpec } from "../quant/weight_spec.js";
import type { IntegerWeight } from "../ops/integer_linear.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ParameterSettings } from "./optimizer.js";
import type { BatchLoss, TrainingBatch, TrainingContext } from "./trainable_model.js";

/** What a weight is transformed for. */
export type WeightPurpose = "training" | "evaluation";

/** One of several models that a run gave: its name, how it codes weights, and its running statistics. */
export interface ModelVariant {
  readonly name: string;
  /** With `weight` where what is packed is another one than the parameter. */
  readonly layers: ReadonlyMap<string, LayerCoding & { readonly spec: WeightSpec; readonly weight?: Tensor }>;
  readonly buffers: ReadonlyMap<string, Tensor>;
}

/** All methods may be left out. Several modifiers of a run are called one after another, in the order given to the trainer. */
export interface TrainingModifier {
  /**
   * Before the forward passes of a step.
   * @param step steps done
   * @param random the run's stream, whose position checkpoints keep
   */
  beforeStep?(step: number, random: RandomStream): void;
  /**
   * Maps a weight to the one multiplied by, differentiably; what the modifier before made is `weight` here. In evaluation it is
   * the one that will be packed, without the noise that training may have.
   */
  transformWeight?(name: string, weight: Tensor, purpose: WeightPurpose): Tensor;
  /** After {@link TrainingModifier.state} and {@link TrainingModifier.parameters} were read from a checkpoint of `step` steps. */
  restored?(step: number): void;
  /** The packed form of a weight that {@link TrainingModifier.transformWeight} made, for products in whole numbers; it outlives the step. */
  packedWeight?(name: string, transformed: Tensor): IntegerWeight | undefined;
  /** The loss of a batch, around that of the model: calls `next` at least once. The first modifier is the outermost. */
  loss?(batch: TrainingBatch, context: TrainingContext, next: (context: TrainingContext) => BatchLoss): BatchLoss;
  /** After the optimizer changed the weights, or with `skipped` left them as they were, since loss or gradients were not finite. */
  afterStep?(step: number, skipped: boolean): void;
  /** Trainable tensors of its own, such as learned scales; averaged as weights are. Names must differ from the model's. */
  parameters?(): ReadonlyMap<string, Tensor>;
  /** Other tensors that must be saved and restored with the run. */
  state?(): ReadonlyMap<string, Tensor>;
  /** How a parameter of the model, or of its own, is trained. */
  settingsOf?(name: string, parameter: Tensor): ParameterSettings | undefined;
  /** Numbers for the line of the step in `metrics.jsonl`. */
  metrics?(): Readonly<Record<string, number>>;
  /**
   * After the run, when all parameters have their final values: how the weights are coded that this modifier trained, and the
   * values that they take from here on, where these are others. New tensors belong to the scope of the caller.
   */
  finish?(): ReadonlyMap<string, LayerCoding & { readonly weight?: Tensor }>;
  /** After the run: the models that it gave, where that is more than one. New tensors belong to the scope of the caller. */
  variants?(): readonly ModelVariant[];
  dispose?(): void;
}
