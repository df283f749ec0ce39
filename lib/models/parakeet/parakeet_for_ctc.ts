/** Parakeet encoder with a CTC head: `ParakeetForCTC` of transformers, for inference and training. */
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { WeightScope, type WeightSource } from "../../nn/weight_source.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { BatchLoss, BlockStack, TrainableModel, TrainingBatch, TrainingContext } from "../../train/trainable_model.js";
import { encoderStack } from "../block_stacks.js";
import { ctcTrainingLoss } from "../ctc_training.js";
import type { CtcNetwork, Encoded } from "../speech_network.js";
import type { ParakeetCtcConfig } from "./parakeet_config.js";
import { ParakeetEncoder } from "./parakeet_encoder.js";

export class ParakeetForCtc implements CtcNetwork, TrainableModel {
  readonly kind = "ctc";
  readonly encoder: ParakeetEncoder;
  private readonly weights: WeightRegistry;
  private readonly head: Linear;

  /** @throws UsmLiteError BAD_CHECKPOINT when a weight is missing or has another shape than `config` asks for */
  constructor(
    readonly config: ParakeetCtcConfig,
    source: WeightSource,
  ) {
    this.weights = new WeightRegistry(source);
    const scope = new WeightScope(this.weights);
    this.encoder = new ParakeetEncoder(scope.scope("encoder"), config.encoder_config);
    this.head = new Linear(scope, "ctc_head", [config.vocab_size, config.encoder_config.hidden_size, 1], { bias: true });
  }

  forward(
    features: Tensor,
    offsets: SequenceOffsets,
    context: ForwardContext = {},
    inspectLayer?: InspectLayer,
  ): Encoded & { readonly logits: Tensor } {
    const encoded = this.encoder.forward(features, offsets, context, inspectLayer);
    return { ...encoded, logits: this.head.forward(encoded.hidden, context) };
  }

  /** Batch normalization keeps the statistics of the checkpoint. */
  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    const { ctc_loss_reduction: reduction, ctc_zero_infinity: zeroInfinity } = this.config;
    return ctcTrainingLoss(this, batch, context, { blank: this.blankId, reduction, zeroInfinity });
  }

  blockStacks(): readonly BlockStack[] {
    return [encoderStack(this.encoder)];
  }

  normReaders(): readonly NormReaders[] {
    return this.encoder.normReaders;
  }

  weightsChanged(): void {
    this.encoder.weightsChanged();
  }

  hiddenFrames(featureFrames: number): number {
    return this.encoder.subsampling.outputLength(featureFrames);
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

  parameters(): ReadonlyMap<string, Tensor> {
    return this.weights.parameters;
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return this.weights.buffers;
  }

  linearWeights(): readonly string[] {
    return [this.encoder.subsampling.output, ...this.encoder.linears, this.head].map((layer) => layer.name);
  }

  blockWeights(): readonly string[] {
    return this.encoder.linears.map((layer) => layer.name);
  }

  dispose(): void {
    this.encoder.dispose();
    this.weights.dispose();
  }
}
