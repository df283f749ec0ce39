/** Whisper (`WhisperForConditionalGeneration` of transformers), for inference. */
import { linear } from "../../ops/linear.js";
import { packedLinear } from "../../ops/packed_linear.js";
import { SequenceDecoder, whisperDecoderNames, type DecoderMemory, type DecoderSession } from "../../nn/sequence_decoder.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { WeightScope, type MatrixWeight, type WeightSource } from "../../nn/weight_source.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import { Tensor } from "../../tensor/tensor.js";
import type { SequenceGeneration } from "../sequence_generation.js";
import type { Encoded, SequenceToSequenceNetwork } from "../speech_network.js";
import type { WhisperConfig } from "./whisper_config.js";
import { WhisperEncoder, whisperLayerNormEpsilon } from "./whisper_encoder.js";

export class WhisperNetwork implements SequenceToSequenceNetwork {
  readonly kind = "sequence-to-sequence";
  readonly fixedWindow = true;
  private readonly weights: WeightRegistry;
  private readonly encoder: WhisperEncoder;
  private readonly decoder: SequenceDecoder;
  /** (vocabulary, hidden): the token embeddings unless the checkpoint has scores of their own. */
  private readonly head: MatrixWeight;

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
    // The same weight scores tokens, packed if it is, and has its rows looked up, as floats.
    const embedding = scope.matrix("embed_tokens.weight", [vocab_size, hidden], "small");
    const tokens = embedding instanceof Tensor ? embedding : scope.tensor("embed_tokens.weight", [vocab_size, hidden], "small");
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
        embeddingScale: config.scale_embedding ? Math.sqrt(hidden) : 1,
        names: whisperDecoderNames,
      },
      { tokens, positions },
    );
    this.head = config.tie_word_embeddings ? embedding : root.matrix("proj_out.weight", [vocab_size, hidden], "small");
  }

  encode(features: Tensor, offsets: SequenceOffsets): Encoded {
    return this.encoder.forward(features, offsets);
  }

  remember({ hidden, offsets }: Encoded): DecoderMemory {
    return this.decoder.remember(hidden, offsets);
  }

  session(memory: DecoderMemory): DecoderSession {
    return this.decoder.session(memory);
  }

  scores(hidden: Tensor): Tensor {
    return this.head instanceof Tensor ? linear(hidden, this.head) : packedLinear(hidden, this.head);
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

  dispose(): void {
    this.weights.dispose();
  }
}
