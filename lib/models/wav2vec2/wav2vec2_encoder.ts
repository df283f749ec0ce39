/** The Transformer and Conformer encoders of wav2vec 2.0 and HuBERT (`Wav2Vec2Encoder`, .. in transformers), for inference. */
import { ConformerBlock } from "../../nn/conformer_block.js";
import { wav2vec2ConformerNames } from "../../nn/conformer_names.js";
import type { Linear } from "../../nn/linear.js";
import { RelativePositions } from "../../nn/relative_positions.js";
import { RelativeSelfAttention } from "../../nn/relative_self_attention.js";
import { Norm, TransformerBlock } from "../../nn/transformer_block.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { scaledSum } from "../../ops/elementwise.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import { tidy } from "../../tensor/scope.js";
import type { Tensor } from "../../tensor/tensor.js";
import { PositionalConvolution } from "./positional_convolution.js";
import { RotatedSelfAttention } from "./rotated_self_attention.js";
import type { Wav2Vec2Config } from "./wav2vec2_config.js";

export interface Encoder {
  /** @param x (frames, hidden); returns the same shape */
  forward(x: Tensor, offsets: SequenceOffsets): Tensor;
  /** The linear layers of the blocks. */
  readonly linears: readonly Linear[];
  /** Gives back the memory of what was made from weights and for positions. */
  dispose(): void;
}

const transformerNames = {
  attention: "attention",
  query: "q_proj",
  key: "k_proj",
  value: "v_proj",
  output: "out_proj",
  attentionNorm: "layer_norm",
  inner: "feed_forward.intermediate_dense",
  outer: "feed_forward.output_dense",
  feedForwardNorm: "final_layer_norm",
} as const;

/** Of `wav2vec2` and `hubert`. */
export class Wav2Vec2Encoder implements Encoder {
  private readonly positions: PositionalConvolution;
  private readonly norm: Norm;
  private readonly blocks: readonly TransformerBlock[];

  constructor(
    scope: WeightScope,
    private readonly config: Wav2Vec2Config,
  ) {
    const { hidden_size: hidden, layer_norm_eps } = config;
    const positions = scope.scope("pos_conv_embed.conv");
    this.positions = new PositionalConvolution(positions, hidden, config.num_conv_pos_embeddings, config.num_conv_pos_embedding_groups);
    this.norm = new Norm(scope, "layer_norm", hidden, layer_norm_eps);
    const sizes = {
      hidden,
      heads: config.num_attention_heads,
      intermediate: config.intermediate_size,
      activation: config.hidden_act,
      layerNormEpsilon: layer_norm_eps,
      normalizeFirst: config.do_stable_layer_norm,
      keyBias: true,
      names: transformerNames,
    };
    this.blocks = Array.from({ length: config.num_hidden_layers }, (_, index) => new TransformerBlock(scope.scope(`layers.${index}`), sizes));
  }

  forward(x: Tensor, offsets: SequenceOffsets): Tensor {
    return tidy(() => {
      const placed = scaledSum(x, 1, this.positions.forward(x, offsets), 1);
      const { do_stable_layer_norm: normalizeFirst } = this.config;
      const y = throughBlocks(this.blocks, normalizeFirst ? placed : this.norm.forward(placed), (block, input) => block.forward(input, offsets));
      return normalizeFirst ? this.norm.forward(y) : y;
    });
  }

  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }

  dispose(): void {
    this.positions.dispose();
  }
}

/** Of `wav2vec2-conformer`. */
export class Wav2Vec2ConformerEncoder implements Encoder {
  private readonly positions: RelativePositions | undefined;
  private readonly norm: Norm;
  private readonly blocks: readonly ConformerBlock[];

  constructor(scope: WeightScope, config: Wav2Vec2Config) {
    const { hidden_size: hidden, num_attention_heads: heads } = config;
    const relative = config.position_embeddings_type === "relative";
    this.positions = relative ? new RelativePositions(hidden) : undefined;
    this.norm = new Norm(scope, "layer_norm", hidden, config.layer_norm_eps);
    const sizes = {
      names: wav2vec2ConformerNames,
      activation: config.hidden_act as "gelu" | "silu",
      hidden,
      intermediate: config.intermediate_size,
      kernel: config.conv_depthwise_kernel_size,
      bias: false,
      feedForwardBias: true,
      convolutionBias: false,
      normBias: true,
      layerNormEpsilon: 1e-5, // torch's default, which the blocks of this family keep
      batchNormMomentum: 0.1,
      feedForwardResidualWeights: [1, 0.5],
      convolutionResidualWeights: [1, 1],
      activationDropout: 0,
    } as const;
    const attentionSizes = { hidden, heads, keyValueHeads: heads, headDimension: hidden / heads, bias: true, names: relativeNames };
    const theta = config.position_embeddings_type === "rotary" ? config.rotary_embedding_base : undefined;
    this.blocks = Array.from(
      { length: config.num_hidden_layers },
      (_, index) =>
        new ConformerBlock(scope.scope(`layers.${index}`), sizes, (inner) =>
          relative ? new RelativeSelfAttention(inner, attentionSizes) : new RotatedSelfAttention(inner, { hidden, heads, theta }),
        ),
    );
  }

  forward(x: Tensor, offsets: SequenceOffsets): Tensor {
    const longest = Math.max(1, ...offsets.lengths);
    return tidy(() => {
      const context = this.positions ? { positions: this.positions.forDistances(longest - 1, longest - 1) } : {};
      return this.norm.forward(throughBlocks(this.blocks, x, (block, input) => block.forward(input, offsets, context)));
    });
  }

  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }

  dispose(): void {
    this.positions?.dispose();
    for (const block of this.blocks) block.convolution.forgetFolded();
  }
}

const relativeNames = {
  query: "linear_q",
  key: "linear_k",
  value: "linear_v",
  output: "linear_out",
  position: "linear_pos",
  contentBias: "pos_bias_u",
  positionBias: "pos_bias_v",
} as const;

/** Block after block, each input released once its output is there. */
function throughBlocks<Block>(blocks: readonly Block[], x: Tensor, step: (block: Block, x: Tensor) => Tensor): Tensor {
  return blocks.reduce((input, block) => {
    const output = tidy(() => step(block, input));
    if (input !== x) input.dispose();
    return output;
  }, x);
}
