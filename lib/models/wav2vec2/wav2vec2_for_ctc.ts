/** wav2vec 2.0, HuBERT or wav2vec2-conformer with a CTC head (`Wav2Vec2ForCTC`, .. in transformers), for inference and training. */
import { DeviceTensor } from "../../device/device_tensor.js";
import { RecordedPasses } from "../../device/recorded_passes.js";
import { activeAdapters, withSequences } from "../../nn/adapter_scope.js";
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { Norm } from "../../nn/transformer_block.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { WeightScope, type WeightSource } from "../../nn/weight_source.js";
import { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import { activeTape, releaseUnlessRecording } from "../../ops/tape.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { BatchLoss, BlockStack, TrainableModel, TrainingBatch, TrainingContext } from "../../train/trainable_model.js";
import { encoderStack } from "../block_stacks.js";
import { ctcTrainingLoss } from "../ctc_training.js";
import type { CtcNetwork, Encoded } from "../speech_network.js";
import { Adapter, shortenedLength } from "./adapter.js";
import { FeatureEncoder } from "./feature_encoder.js";
import { outputSize, type Wav2Vec2Config } from "./wav2vec2_config.js";
import { Wav2Vec2ConformerEncoder, Wav2Vec2Encoder, type Encoder } from "./wav2vec2_encoder.js";

// As much audio as 32,768 log-mel frames.
const maximumRecordedSamples = 160 << 15;

/** Prefix of the weights below the head. */
const prefixes = { wav2vec2: "wav2vec2", hubert: "hubert", "wav2vec2-conformer": "wav2vec2_conformer" } as const;

export class Wav2Vec2ForCtc implements CtcNetwork, TrainableModel {
  readonly kind = "ctc";
  readonly featureSize = 1;
  private readonly weights: WeightRegistry;
  private readonly features: FeatureEncoder;
  private readonly featureNorm: Norm | undefined;
  private readonly projection: Linear;
  private readonly encoder: Encoder;
  private readonly adapter: Adapter | undefined;
  private readonly head: Linear;
  /** Forward passes of the encoder on the GPU for inference. What the adapter shortens depends on the lengths, and is not recorded. */
  private readonly passes = new RecordedPasses({
    forward: (samples, offsets) => this.encode(samples, offsets, {}),
    hiddenFrames: (samples) => this.features.outputLength(samples),
    maximumFrames: maximumRecordedSamples,
  });

  /** @throws UsmLiteError BAD_CHECKPOINT when a weight is missing or has another shape than `config` asks for */
  constructor(
    readonly config: Wav2Vec2Config,
    source: WeightSource,
  ) {
    this.weights = new WeightRegistry(source);
    const root = new WeightScope(this.weights);
    const scope = root.scope(prefixes[config.model_type]);
    const channels = config.conv_dim.at(-1) as number;
    const projection = scope.scope("feature_projection");
    this.features = new FeatureEncoder(scope.scope("feature_extractor"), config);
    const normalizes = config.model_type !== "hubert" || config.feat_proj_layer_norm;
    this.featureNorm = normalizes ? new Norm(projection, "layer_norm", channels, config.layer_norm_eps) : undefined;
    this.projection = new Linear(projection, "projection", [config.hidden_size, channels], { bias: true });
    const conformer = config.model_type === "wav2vec2-conformer";
    this.encoder = new (conformer ? Wav2Vec2ConformerEncoder : Wav2Vec2Encoder)(scope.scope("encoder"), config);
    this.adapter = config.add_adapter ? new Adapter(scope.scope("adapter"), config) : undefined;
    this.head = new Linear(root, "lm_head", [config.vocab_size, outputSize(config)], { bias: true });
  }

  /** @param samples (samples, 1); on the GPU a float32 vector */
  forward(
    samples: Tensor,
    offsets: SequenceOffsets,
    context: ForwardContext = {},
    inspectLayer?: InspectLayer,
  ): Encoded & { readonly logits: Tensor } {
    const isTrained = this.projection.weight instanceof DeviceTensor;
    const records = samples instanceof DeviceTensor && !isTrained && !inspectLayer && !activeAdapters();
    const inner = records ? this.passes.run(samples, offsets) : this.encode(samples, offsets, context, inspectLayer);
    const encoded = this.adapter?.forward(inner.hidden, inner.offsets, context) ?? inner;
    return { ...encoded, logits: this.head.forward(encoded.hidden, context) };
  }

  /** What the adapter is given, or the head where there is none. */
  private encode(samples: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer?: InspectLayer): Encoded {
    return withSequences(new SequenceOffsets(offsets.lengths.map((length) => this.features.outputLength(length))), () => {
      const { hidden: x, offsets: where } = this.project(samples, offsets, context);
      const hidden = this.encoder.forward(x, where, context, inspectLayer);
      if (!activeTape()) x.dispose();
      return { hidden, offsets: where };
    });
  }

  /** What the encoder is given. */
  private project(samples: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded {
    const { output, offsets: where } = this.features.forward(samples, offsets, context);
    const x = releaseUnlessRecording(() => this.projection.forward(this.featureNorm?.forward(output) ?? output, context));
    if (!activeTape()) output.dispose();
    return { hidden: x, offsets: where };
  }

  blockStacks(): readonly BlockStack[] {
    const { encoder } = this;
    const subsample = (samples: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded => {
      const projected = this.project(samples, offsets, context);
      return { hidden: encoder.place(projected.hidden, projected.offsets), offsets: projected.offsets };
    };
    return [encoderStack({ blockNames: encoder.blockNames, subsample, runBlock: (...given) => encoder.runBlock(...given) })];
  }

  normReaders(): readonly NormReaders[] {
    return this.encoder.normReaders;
  }

  /** The convolutions below the projection are not trained, and batch normalization keeps the statistics of the checkpoint. */
  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    const { ctc_loss_reduction: reduction, ctc_zero_infinity: zeroInfinity } = this.config;
    return ctcTrainingLoss(this, batch, context, { blank: this.blankId, reduction, zeroInfinity });
  }

  weightsChanged(): void {
    this.passes.dispose();
    this.encoder.weightsChanged();
  }

  hiddenFrames(samples: number): number {
    return shortenedLength(this.features.outputLength(samples), this.config);
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

  /** The convolutions over samples and their norms. */
  keptParameters(): readonly string[] {
    return [...this.parameters().keys()].filter((name) => name.includes(".feature_extractor."));
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return this.weights.buffers;
  }

  linearWeights(): readonly string[] {
    const adapter = this.adapter ? [...this.adapter.projections, ...this.adapter.convolutions] : [];
    return [...this.features.convolutions, this.projection, ...this.encoder.linears, ...adapter, this.head].map(({ name }) => name);
  }

  blockWeights(): readonly string[] {
    const { linears, languageLinears } = this.encoder;
    return linears.filter((layer) => !languageLinears.includes(layer)).map(({ name }) => name);
  }

  dispose(): void {
    this.passes.dispose();
    this.encoder.dispose();
    this.weights.dispose();
  }
}
