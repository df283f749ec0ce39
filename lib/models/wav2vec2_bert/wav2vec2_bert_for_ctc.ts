/** w2v-BERT 2.0 with a CTC head: `Wav2Vec2BertForCTC` of transformers, for inference and training. */
import { DeviceTensor } from "../../device/device_tensor.js";
import { RecordedPasses } from "../../device/recorded_passes.js";
import { activeAdapters, withSequences } from "../../nn/adapter_scope.js";
import { FeedForward } from "../../nn/feed_forward.js";
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import { readersOf, type NormReaders } from "../../nn/norm_readers.js";
import { Norm } from "../../nn/transformer_block.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { WeightScope, type WeightSource } from "../../nn/weight_source.js";
import { activeTape, releaseUnlessRecording } from "../../ops/tape.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { BatchLoss, BlockStack, TrainableModel, TrainingBatch, TrainingContext } from "../../train/trainable_model.js";
import { encoderStack } from "../block_stacks.js";
import { ctcTrainingLoss } from "../ctc_training.js";
import type { CtcNetwork, Encoded } from "../speech_network.js";
import { adapterLayers, outputSize } from "../wav2vec2/wav2vec2_config.js";
import { Adapter, feedForwardNames } from "./adapter.js";
import { shortenedLength, type Wav2Vec2BertConfig } from "./wav2vec2_bert_config.js";
import { Wav2Vec2BertEncoder } from "./wav2vec2_bert_encoder.js";

// As much audio as 32,768 log-mel frames.
const maximumRecordedPairs = 1 << 14;

export class Wav2Vec2BertForCtc implements CtcNetwork, TrainableModel {
  readonly kind = "ctc";
  private readonly weights: WeightRegistry;
  private readonly featureNorm: Norm;
  private readonly projection: Linear;
  private readonly encoder: Wav2Vec2BertEncoder;
  /** Between encoder and adapter, added by half. */
  private readonly intermediate: FeedForward | undefined;
  private readonly adapter: Adapter | undefined;
  private readonly head: Linear;
  /** Forward passes of the encoder on the GPU for inference. What the adapter shortens depends on the lengths, and is not recorded. */
  private readonly passes = new RecordedPasses({
    forward: (features, offsets) => this.encode(features, offsets, {}),
    hiddenFrames: (frames) => frames,
    maximumFrames: maximumRecordedPairs,
  });

  /** @throws UsmLiteError BAD_CHECKPOINT when a weight is missing or has another shape than `config` asks for */
  constructor(
    readonly config: Wav2Vec2BertConfig,
    source: WeightSource,
  ) {
    this.weights = new WeightRegistry(source);
    const root = new WeightScope(this.weights);
    const scope = root.scope("wav2vec2_bert");
    const { hidden_size: hidden, intermediate_size: intermediate } = config;
    const projection = scope.scope("feature_projection");
    this.featureNorm = new Norm(projection, "layer_norm", this.featureSize, config.layer_norm_eps);
    this.projection = new Linear(projection, "projection", [hidden, this.featureSize], { bias: true });
    this.encoder = new Wav2Vec2BertEncoder(scope.scope("encoder"), config);
    if (config.use_intermediate_ffn_before_adapter) {
      const sizes = { hidden, intermediate, bias: true, activation: "relu", names: feedForwardNames } as const;
      this.intermediate = new FeedForward(scope.scope("intermediate_ffn"), sizes, 0);
    }
    this.adapter = config.add_adapter ? new Adapter(scope.scope("adapter"), config) : undefined;
    this.head = new Linear(root, "lm_head", [config.vocab_size, outputSize(config)], { bias: true });
  }

  /**
   * @param features (frames, feature size) of all sequences, packed
   * @returns `hidden` (hidden frames, hidden), what the adapter gives where there is one, and `logits` (hidden frames, vocabulary)
   */
  forward(
    features: Tensor,
    offsets: SequenceOffsets,
    context: ForwardContext = {},
    inspectLayer?: InspectLayer,
  ): Encoded & { readonly logits: Tensor } {
    const isTrained = this.projection.weight instanceof DeviceTensor;
    const records = features instanceof DeviceTensor && !isTrained && !inspectLayer && !activeAdapters();
    const { hidden } = records
      ? this.passes.run(features, offsets)
      : withSequences(offsets, () => this.encode(features, offsets, context, inspectLayer));
    const encoded = this.adapter?.forward(hidden, offsets, context) ?? { hidden, offsets };
    return { ...encoded, logits: this.head.forward(encoded.hidden, context) };
  }

  /** What the adapter is given, or the head where there is none. */
  private encode(features: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer?: InspectLayer): Encoded {
    const { hidden: x } = this.project(features, offsets, context);
    const hidden = this.encoder.forward(x, offsets, context, inspectLayer);
    if (!activeTape()) x.dispose();
    return { hidden: this.intermediate?.forward(hidden, hidden, [1, 0.5], context) ?? hidden, offsets };
  }

  /** What the encoder is given. */
  private project(features: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded {
    const hidden = releaseUnlessRecording(() => this.projection.forward(this.featureNorm.forward(features), context));
    return { hidden, offsets };
  }

  blockStacks(): readonly BlockStack[] {
    const { encoder } = this;
    return [
      encoderStack({
        blockNames: encoder.blockNames,
        subsample: (...given) => this.project(...given),
        runBlock: (...given) => encoder.runBlock(...given),
      }),
    ];
  }

  normReaders(): readonly NormReaders[] {
    return [
      ...readersOf(this.featureNorm.names, [this.projection]),
      ...this.encoder.normReaders,
      ...(this.adapter?.normReaders ?? []),
    ];
  }

  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    const { ctc_loss_reduction: reduction, ctc_zero_infinity: zeroInfinity } = this.config;
    return ctcTrainingLoss(this, batch, context, { blank: this.blankId, reduction, zeroInfinity });
  }

  weightsChanged(): void {
    this.passes.dispose();
    this.encoder.weightsChanged();
  }

  hiddenFrames(featureFrames: number): number {
    let frames = featureFrames;
    for (let layer = 0; layer < adapterLayers(this.config); layer++) frames = shortenedLength(frames, this.config);
    return frames;
  }

  get featureSize(): number {
    return this.config.feature_projection_input_dim;
  }

  get vocabularySize(): number {
    return this.config.vocab_size;
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
    const adapter = this.adapter ? [...this.adapter.projections, ...this.adapter.convolutions] : [];
    return [this.projection.name, ...this.blockWeights(), ...[...adapter, this.head].map(({ name }) => name)];
  }

  blockWeights(): readonly string[] {
    const others = [...(this.intermediate?.linears ?? []), ...(this.adapter?.linears ?? [])];
    return [...this.encoder.linears, ...others].map(({ name }) => name);
  }

  dispose(): void {
    this.passes.dispose();
    this.encoder.dispose();
    this.weights.dispose();
  }
}
