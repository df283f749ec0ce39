/** Cohere's speech recognition (`CohereAsrForConditionalGeneration` of transformers): Parakeet's encoder, a Transformer decoder. For inference. */
import { onCpu } from "../../device/placement.js";
import { Linear } from "../../nn/linear.js";
import { SequenceDecoder, type DecoderMemory, type DecoderSession } from "../../nn/sequence_decoder.js";
import { Norm } from "../../nn/transformer_block.js";
import { WeightRegistry } from "../../nn/weight_registry.js";
import { WeightScope, type MatrixWeight, type WeightSource } from "../../nn/weight_source.js";
import { linear } from "../../ops/linear.js";
import { packedLinear } from "../../ops/packed_linear.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import { Tensor } from "../../tensor/tensor.js";
import { ParakeetEncoder } from "../parakeet/parakeet_encoder.js";
import type { SequenceGeneration } from "../sequence_generation.js";
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

export class CohereNetwork implements SequenceToSequenceNetwork {
  readonly kind = "sequence-to-sequence";
  readonly fixedWindow = false;
  private readonly weights: WeightRegistry;
  private readonly encoder: ParakeetEncoder;
  /** From the encoder's width to the decoder's. */
  private readonly projection: Linear;
  private readonly decoder: SequenceDecoder;
  /** (vocabulary, hidden) */
  private readonly head: MatrixWeight;
  private readonly headBias: Tensor;

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
    // The same weight scores tokens, packed if it is, and has its rows looked up, as floats.
    const embedding = scope.matrix("embed_tokens.weight", [vocab_size, hidden], "small");
    const tokens = embedding instanceof Tensor ? embedding : scope.tensor("embed_tokens.weight", [vocab_size, hidden], "small");
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
      embeddingScale: 1,
      names,
    };
    this.decoder = new SequenceDecoder(scope, sizes, { tokens, positions, norm });
    this.head = config.tie_word_embeddings ? embedding : root.matrix("proj_out.weight", [vocab_size, hidden], "small");
    this.headBias = root.tensor("proj_out.bias", [vocab_size], "zeros");
  }

  encode(features: Tensor, offsets: SequenceOffsets): Encoded {
    const { hidden, offsets: hiddenOffsets } = this.encoder.forward(features, offsets);
    return { hidden: onCpu(hidden), offsets: hiddenOffsets }; // the decoder computes there
  }

  remember({ hidden, offsets }: Encoded): DecoderMemory {
    using projected = this.projection.forward(hidden, {});
    return this.decoder.remember(projected, offsets);
  }

  session(memory: DecoderMemory): DecoderSession {
    return this.decoder.session(memory);
  }

  scores(hidden: Tensor): Tensor {
    const bias = { bias: this.headBias };
    return this.head instanceof Tensor ? linear(hidden, this.head, bias) : packedLinear(hidden, this.head, bias);
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
    return [this.encoder.subsampling.output.name, this.projection.name, ...this.blockWeights(), "model.decoder.embed_tokens.weight", ...own];
  }

  blockWeights(): readonly string[] {
    return [...this.encoder.linears, ...this.decoder.linears].map(({ name }) => name);
  }

  dispose(): void {
    this.encoder.dispose();
    this.weights.dispose();
  }
}
