/** Cohere's speech recognition (`CohereAsrForConditionalGeneration` of transformers): Parakeet's encoder, a Transformer decoder. For inference and training. */
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import type { DecoderMemory, DecoderSession } from "../../nn/decoder_session.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { SequenceDecoder } from "../../nn/sequence_decoder.js";
import { Norm } from "../../nn/transformer_block.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { TokenEmbedding } from "../../nn/token_embedding.js";
import { WeightScope, type WeightSource } from "../../nn/weight_source.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { BatchLoss, BlockStack, TrainableModel, TrainingBatch, TrainingContext } from "../../train/trainable_model.js";
import { ParakeetEncoder } from "../parakeet/parakeet_encoder.js";
import { decoderStack, encoderStack } from "../block_stacks.js";
import type { SequenceGeneration } from "../sequence_generation.js";
import { sequenceTrainingLoss } from "../sequence_training.js";
import type { Encoded, SequenceToSequenceNetwork } from "../speech_network.js";
import type { CohereConfig } from "./cohere_config.js";

// torch's default, which this family does not configure.
const layerNormEpsilon = 1e-5;

const names = {
  output: "o_proj",
  selfNorm: "input_layernorm",
  crossNorm: "post_attention_layernorm",
  feedForwardNorm: "final_layernorm",
  inner: "mlp.fc1",
  outer: "mlp.fc2",
  norm: "norm",
} as const;

export class CohereNetwork implements SequenceToSequenceNetwork, TrainableModel {
  readonly kind = "sequence-to-sequence";
  readonly fixedWindow = false;
  private readonly weights: WeightRegistry;
  private readonly encoder: ParakeetEncoder;
  /** From the encoder's width to the decoder's. */
  private readonly projection: Linear;
  private readonly decoder: SequenceDecoder;
  private readonly tokens: TokenEmbedding;
  /** Scores tokens; or, with its bias alone, what the token embeddings give. */
  private readonly head: Linear | { readonly bias: Tensor };

  /** @throws UsmLiteError BAD_CHECKPOINT when a weight is missing or has another shape than `config` asks for */
  constructor(
    readonly config: CohereConfig,
    readonly generation: SequenceGeneration,
    source: WeightSource,
  ) {
    this.weights = new WeightRegistry(source);
    const root = new WeightScope(this.weights);
    const { hidden_size: hidden, vocab_size, max_position_embeddings, encoder_config } = config;
    this.encoder = new ParakeetEncoder(root.scope("model.encoder"), encoder_config);
    const scope = root.scope("model.decoder");
    this.projection = new Linear(scope, "proj", [hidden, encoder_config.hidden_size], { bias: true });
    this.tokens = new TokenEmbedding(scope, "embed_tokens", [vocab_size, hidden]);
    const positions = scope.tensor("pos_emb.weight", [max_position_embeddings, hidden], "small");
    const norm = new Norm(scope, "embedding_layernorm", hidden, layerNormEpsilon);
    const sizes = {
      hidden,
      heads: config.num_attention_heads,
      intermediate: config.intermediate_size,
      layers: config.num_hidden_layers,
      activation: config.hidden_act,
      layerNormEpsilon,
      keyBias: config.attention_bias,
      bias: config.attention_bias,
      names,
    };
    this.decoder = new SequenceDecoder(scope, sizes, { tokens: this.tokens, positions, norm });
    this.head = config.tie_word_embeddings
      ? { bias: root.tensor("proj_out.bias", [vocab_size], "zeros") }
      : new Linear(root, "proj_out", [vocab_size, hidden], { bias: true, initialization: "small" });
  }

  encode(features: Tensor, offsets: SequenceOffsets, context: ForwardContext = {}, inspectLayer?: InspectLayer): Encoded {
    return this.encoder.forward(features, offsets, context, inspectLayer);
  }

  /** Scores (tokens, vocabulary) of what follows each token of sequences, one about each item. */
  decode(
    encoded: Encoded,
    sequences: readonly (readonly number[])[],
    context: ForwardContext = {},
    inspectLayer?: InspectLayer,
  ): { readonly logits: Tensor; readonly offsets: SequenceOffsets } {
    const table = this.tokens.table(context);
    const { hidden, offsets } = this.decoder.forward(sequences, this.project(encoded, context), table, context, inspectLayer);
    return { logits: this.tokenScores(hidden, table, context), offsets };
  }

  /** The frames in the width of the decoder. */
  private project({ hidden, offsets }: Encoded, context: ForwardContext): Encoded {
    return { hidden: this.projection.forward(hidden, context), offsets };
  }

  private tokenScores(hidden: Tensor, table: Tensor, context: ForwardContext): Tensor {
    const { head } = this;
    return head instanceof Linear ? head.forward(hidden, context) : this.tokens.scores(hidden, table, context, head.bias);
  }

  /** What the decoder begins with: embedded tokens, and the frames that its blocks look at. */
  beginDecoding(
    encoded: Encoded,
    sequences: readonly (readonly number[])[],
    context: ForwardContext,
  ): Encoded & { readonly memory: Encoded } {
    const memory = this.project(encoded, context);
    return { ...this.decoder.embed(sequences, this.tokens.table(context), encoded.hidden.device), memory };
  }

  /** Mean cross-entropy of the tokens after the prompt. Batch normalization keeps the statistics of the checkpoint. */
  loss(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    return sequenceTrainingLoss(this, batch, context);
  }

  weightsChanged(): void {
    this.encoder.weightsChanged();
  }

  blockStacks(): readonly BlockStack[] {
    return [encoderStack(this.encoder), decoderStack(this, this.decoder)];
  }

  normReaders(): readonly NormReaders[] {
    return [...this.encoder.normReaders, ...this.decoder.normReaders];
  }

  remember({ hidden, offsets }: Encoded): DecoderMemory {
    using projected = this.projection.forward(hidden, {});
    return this.decoder.remember(projected, offsets);
  }

  get memoryValuesPerFrame(): number {
    const { layers, hidden } = this.decoder.sizes;
    return 2 * layers * hidden;
  }

  session(memory: DecoderMemory): DecoderSession {
    return this.decoder.session(memory);
  }

  scores(hidden: Tensor): Tensor {
    return this.tokenScores(hidden, this.tokens.table({}), {});
  }

  hiddenFrames(featureFrames: number): number {
    return this.encoder.subsampling.outputLength(featureFrames);
  }

  get featureSize(): number {
    return this.config.encoder_config.num_mel_bins;
  }

  get vocabularySize(): number {
    return this.config.vocab_size;
  }

  parameters(): ReadonlyMap<string, Tensor> {
    return this.weights.parameters;
  }

  buffers(): ReadonlyMap<string, Tensor> {
    return this.weights.buffers;
  }

  linearWeights(): readonly string[] {
    const own = this.config.tie_word_embeddings ? [] : ["proj_out.weight"];
    return [
      this.encoder.subsampling.output.name,
      this.projection.name,
      ...this.blockWeights(),
      "model.decoder.embed_tokens.weight",
      ...own,
    ];
  }

  blockWeights(): readonly string[] {
    return [...this.encoder.linears, ...this.decoder.linears].map(({ name }) => name);
  }

  dispose(): void {
    this.encoder.dispose();
    this.weights.dispose();
  }
}
