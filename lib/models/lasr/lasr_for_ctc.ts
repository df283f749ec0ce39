/** LASR encoder with a CTC head: `LasrForCTC` of transformers, for inference and training. */
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { WeightScope, type WeightSource } from "../../nn/weight_source.js";
import type { CtcLossOptions } from "../../ops/ctc_loss.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { BatchLoss, BlockStack, TrainableModel, TrainingBatch, TrainingContext } from "../../train/trainable_model.js";
import { encoderStack } from "../block_stacks.js";
import { ctcTrainingLoss } from "../ctc_training.js";
import type { CtcNetwork } from "../speech_network.js";
import type { LasrConfig } from "./lasr_config.js";
import { LasrEncoder } from "./lasr_encoder.js";

/**
 * A Conformer (Gulati et al. 2020) with a head for connectionist temporal classification (Graves et al. 2006): `LasrForCTC` of transformers.
 *
 * @example
 * const network = new LasrForCtc(parseLasrConfig(json, "config.json"), new FreshWeights(1));
 * const { logits, offsets } = network.forward(features, new SequenceOffsets([features.dim(0)])); // one row per 40 ms
 */
export class LasrForCtc implements TrainableModel, CtcNetwork {
  readonly kind = "ctc";
  readonly encoder: LasrEncoder;
  private readonly head: Linear;
  private readonly weights: WeightRegistry;

  /**
   * @param source gives the weights by their name in transformers
   * @throws UsmLiteError BAD_CHECKPOINT when a weight is missing or has another shape than `config` asks for
   */
  constructor(
    readonly config: LasrConfig,
    source: WeightSource,
  ) {
    this.weights = new WeightRegistry(source);
    const scope = new WeightScope(this.weights);
    const { vocab_size, encoder_config } = config;
    this.encoder = new LasrEncoder(scope.scope("encoder"), encoder_config);
    this.head = new Linear(scope, "ctc_head", [vocab_size, encoder_config.hidden_size, 1], {
      bias: true,
      initialization: "small",
    });
  }

  /**
   * @param features (frames, mel bins) log-mel frames of all sequences, packed
   * @returns `hidden` (hidden frames, hidden) and `logits` (hidden frames, vocabulary), one row per 40 ms
   */
  forward(
    features: Tensor,
    offsets: SequenceOffsets,
    context: ForwardContext = {},
    inspectLayer?: InspectLayer,
  ): { hidden: Tensor; logits: Tensor; offsets: SequenceOffsets } {
    const encoded = this.encoder.forward(features, offsets, context, inspectLayer);
    return { ...encoded, logits: this.head.forward(encoded.hidden, context) };
  }

  get vocabularySize(): number {
    return this.config.vocab_size;
  }

  get featureSize(): number {
    return this.config.encoder_config.num_mel_bins;
  }

  get blankId(): number {
    return this.config.pad_token_id;
  }

  hiddenFrames(featureFrames: number): number {
    return this.encoder.subsampler.outputLength(featureFrames);
  }

  parameters(): ReadonlyMap<string, Tensor> {
    return this.weights.parameters;
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return this.weights.buffers;
  }

  linearWeights(): readonly string[] {
    return this.layers.map((layer) => layer.name);
  }

  /** Those of {@link LasrForCtc.linearWeights} in the Conformer blocks, nearly all of the model: what a recipe's `spec` covers. */
  blockWeights(): readonly string[] {
    return this.encoder.linears.map((layer) => layer.name);
  }

  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    return ctcTrainingLoss(this, batch, context, this.ctcOptions);
  }

  blockStacks(): readonly BlockStack[] {
    return [encoderStack(this.encoder)];
  }

  normReaders(): readonly NormReaders[] {
    return this.encoder.normReaders;
  }

  /** What `config.json` says about the loss. */
  get ctcOptions(): CtcLossOptions {
    return {
      blank: this.config.pad_token_id,
      zeroInfinity: this.config.ctc_zero_infinity,
      reduction: this.config.ctc_loss_reduction,
    };
  }

  /** Gives the memory of all weights back. */
  dispose(): void {
    this.weightsChanged();
    this.weights.dispose();
  }

  /** To be called after weights changed by other means than a training step, such as loading averaged ones. */
  weightsChanged(): void {
    this.encoder.weightsChanged();
  }

  private get layers(): readonly { readonly name: string }[] {
    return [...this.encoder.subsampler.layers, ...this.encoder.linears, this.head];
  }
}
