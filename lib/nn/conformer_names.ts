/** What the parts of a Conformer block are called in checkpoints. */
import type { RelativeSelfAttentionNames } from "./relative_self_attention.js";

export interface ConformerNames {
  readonly feedForward1: string;
  readonly feedForward2: string;
  /** Linear layers of both feed-forward modules. */
  readonly inner: string;
  readonly outer: string;
  readonly selfAttention: string;
  readonly convolution: string;
  /** The batch normalization inside the convolution module. */
  readonly batchNorm: string;
  readonly norms: {
    readonly feedForward1: string;
    readonly selfAttention: string;
    readonly convolution: string;
    readonly feedForward2: string;
    readonly output: string;
  };
}

/** LASR and Parakeet. */
export const conformerNames: ConformerNames = {
  feedForward1: "feed_forward1",
  feedForward2: "feed_forward2",
  inner: "linear1",
  outer: "linear2",
  selfAttention: "self_attn",
  convolution: "conv",
  batchNorm: "norm",
  norms: {
    feedForward1: "norm_feed_forward1",
    selfAttention: "norm_self_att",
    convolution: "norm_conv",
    feedForward2: "norm_feed_forward2",
    output: "norm_out",
  },
};

/** wav2vec2-conformer and wav2vec2-bert. */
export const wav2vec2ConformerNames: ConformerNames = {
  feedForward1: "ffn1",
  feedForward2: "ffn2",
  inner: "intermediate_dense",
  outer: "output_dense",
  selfAttention: "self_attn",
  convolution: "conv_module",
  batchNorm: "batch_norm",
  norms: {
    feedForward1: "ffn1_layer_norm",
    selfAttention: "self_attn_layer_norm",
    convolution: "conv_module.layer_norm",
    feedForward2: "ffn2_layer_norm",
    output: "final_layer_norm",
  },
};

/** Of self-attention with relative positions in the same. */
export const wav2vec2RelativeNames: RelativeSelfAttentionNames = {
  query: "linear_q",
  key: "linear_k",
  value: "linear_v",
  output: "linear_out",
  position: "linear_pos",
  contentBias: "pos_bias_u",
  positionBias: "pos_bias_v",
};
