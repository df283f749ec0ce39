/** Whisper (`WhisperForConditionalGeneration` of transformers), for inference and training. */
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import type { DecoderMemory, DecoderSession } from "../../nn/decoder_session.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { SequenceDecoder, whisperDecoderNames } from "../../nn/sequence_decoder.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { TokenEmbedding } from "../../nn/token_embedding.js";
import { WeightScope, type WeightSource } from "../../nn/weight_source.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { BatchLoss, BlockStack, TrainableModel, TrainingBatch, TrainingContext } from "../../train/trainable_model.js";
import { decoderStack, encoderStack } from "../block_stacks.js";
import type { SequenceGeneration } from "../sequence_generation.js";
import { sequenceTrainingLoss } from "../sequence_training.js";
import type { Encoded, SequenceToSequenceNetwork } from "../speech_network.js";
import type { WhisperConfig } from "./whisper_config.js";
import { WhisperEncoder, whisperLayerNormEpsilon } from "./whisper_encoder.js";

export class WhisperNetwork implements SequenceToSequenceNetwork, TrainableModel {
  readonly kind = "sequence-to-sequence";
  readonly fixedWindow = true;
  private readonly weights: WeightRegistry;
  private readonly encoder: WhisperEncoder;
  private readonly decoder: SequenceDecoder;
  private readonly tokens: TokenEmbedding;
  /** Absent: the token embeddings score tokens. */
  private readonly head: Linear | undefined;

  /** @throws UsmLiteError BAD_CHECKPOINT when a weight is missing or has another shape than `config` asks for */
  constructor(
    readonly config: WhisperConfig,
    readonly generation: SequenceGeneration,
    source: WeightSource,
  ) {
    this.weights = new WeightRegistry(source);
    const root = new WeightScope(this.weights);
    const { d_model: hidden, vocab_size, max_target_positions } = config;
    this.encoder = new WhisperEncoder(root.scope("model.encoder"), config);
    const scope = root.scope("model.decoder");
    this.tokens = new TokenEmbedding(scope, "embed_tokens", [vocab_size, hidden]);
    const positions = scope.tensor("embed_positions.weight", [max_target_positions, hidden], "small");
    this.decoder = new SequenceDecoder(
      scope,
      {
        hidden,
        heads: config.decoder_attention_heads,
        intermediate: config.decoder_ffn_dim,
        layers: config.decoder_layers,
        activation: config.activation_function,
        layerNormEpsilon: whisperLayerNormEpsilon,
        keyBias: false,
        names: whisperDecoderNames,
      },
      { tokens: this.tokens, positions },
    );
    this.head = config.tie_word_embeddings
      ? undefined
      : new Linear(root, "proj_out", [vocab_size, hidden], { bias: false, initialization: "small" });
  }

  encode(features: Tensor, offsets: SequenceOffsets, context: ForwardContext = {}, inspectLayer?: InspectLayer): Encoded {
    return this.encoder.forward(features, offsets, context, inspectLayer);
  }

  /** Scores (tokens, vocabulary) of what follows each token of sequences, one about each window. */
  decode(
    encoded: Encoded,
    sequences: readonly (readonly number[])[],
    context: ForwardContext = {},
    inspectLayer?: InspectLayer,
  ): { readonly logits: Tensor; readonly offsets: SequenceOffsets } {
    const table = this.tokens.table(context);
    const { hidden, offsets } = this.decoder.forward(sequences, encoded, table, context, inspectLayer);
    return { logits: this.head ? this.head.forward(hidden, context) : this.tokens.scores(hidden, table, context), offsets };
  }

  /** What the decoder begins with: embedded tokens, and the frames that its blocks look at. */
  beginDecoding(
    encoded: Encoded,
    sequences: readonly (readonly number[])[],
    context: ForwardContext,
  ): Encoded & { readonly memory: Encoded } {
    return { ...this.decoder.embed(sequences, this.tokens.table(context), encoded.hidden.device), memory: encoded };
  }

  /** Mean cross-entropy of the tokens. Positions of the encoder keep what the checkpoint says. */
  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    return sequenceTrainingLoss(this, batch, context);
  }

  blockStacks(): readonly BlockStack[] {
    return [encoderStack(this.encoder), decoderStack(this, this.decoder)];
  }

  normReaders(): readonly NormReaders[] {
    return [...this.encoder.normReaders, ...this.decoder.normReaders];
  }

  remember({ hidden, offsets }: Encoded): DecoderMemory {
    return this.decoder.remember(hidden, offsets);
  }

  get memoryValuesPerFrame(): number {
    const { layers, hidden } = this.decoder.sizes;
    return 2 * layers * hidden;
  }

  session(memory: DecoderMemory): DecoderSession {
    return this.decoder.session(memory);
  }

  scores(hidden: Tensor): Tensor {
    return this.head ? this.head.forward(hidden, {}) : this.tokens.scores(hidden, this.tokens.table({}), {});
  }

  hiddenFrames(featureFrames: number): number {
    return Math.ceil(featureFrames / 2);
  }

  get featureSize(): number {
    return this.config.num_mel_bins;
  }

  get vocabularySize(): number {
    return this.config.vocab_size;
  }

  parameters(): ReadonlyMap<string, Tensor> {
    return this.weights.parameters;
  }

  /** Positions of the encoder, which are sinusoids. */
  keptParameters(): readonly string[] {
    return [...this.parameters().keys()].filter((name) => name.endsWith("encoder.embed_positions.weight"));
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return this.weights.buffers;
  }

  linearWeights(): readonly string[] {
    const own = this.config.tie_word_embeddings ? [] : ["proj_out.weight"];
    return [...this.encoder.convolutions.map(({ name }) => name), ...this.blockWeights(), "model.decoder.embed_tokens.weight", ...own];
  }

  blockWeights(): readonly string[] {
    return [...this.encoder.linears, ...this.decoder.linears].map(({ name }) => name);
  }

  weightsChanged(): void {
    this.encoder.weightsChanged();
  }

  dispose(): void {
    this.encoder.weightsChanged();
    this.weights.dispose();
  }
}
