/** The layers behind the encoder that shorten its output (`Wav2Vec2BertAdapter` in transformers). */
import { withSequences } from "../../nn/adapter_scope.js";
import { FeedForward } from "../../nn/feed_forward.js";
import type { ForwardContext } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import { readersOf, type NormReaders } from "../../nn/norm_readers.js";
import { StridedConvolution } from "../../nn/strided_convolution.js";
import { Norm } from "../../nn/transformer_block.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { glu } from "../../ops/activation.js";
import { padSequences } from "../../ops/row_copies.js";
import { releaseUnlessRecording } from "../../ops/tape.js";
import { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Encoded } from "../speech_network.js";
import { RotatedSelfAttention } from "../wav2vec2/rotated_self_attention.js";
import { adapterLayers, outputSize } from "../wav2vec2/wav2vec2_config.js";
import { adapterPadding, shortenedLength, type Wav2Vec2BertConfig } from "./wav2vec2_bert_config.js";

export const feedForwardNames = { inner: "intermediate_dense", outer: "output_dense" } as const;

/** Two strided convolutions of the same frames, one as residual; self-attention without positions and a feed-forward module. */
class AdapterLayer {
  private readonly residualNorm: Norm;
  private readonly residualConvolution: StridedConvolution;
  private readonly attentionNorm: Norm;
  private readonly attentionConvolution: StridedConvolution;
  private readonly selfAttention: RotatedSelfAttention;
  private readonly feedForwardNorm: Norm;
  private readonly feedForward: FeedForward;

  constructor(
    scope: WeightScope,
    private readonly config: Wav2Vec2BertConfig,
  ) {
    const { layer_norm_eps: epsilon, num_attention_heads: heads, intermediate_size: intermediate, adapter_act: activation } = config;
    const hidden = outputSize(config);
    const shape = [2 * hidden, hidden, config.adapter_kernel_size] as const;
    const options = { activation: "none", bias: true } as const;
    this.residualNorm = new Norm(scope, "residual_layer_norm", hidden, epsilon);
    this.residualConvolution = new StridedConvolution(scope, "residual_conv", shape, config.adapter_stride, options);
    this.attentionNorm = new Norm(scope, "self_attn_layer_norm", hidden, epsilon);
    this.attentionConvolution = new StridedConvolution(scope, "self_attn_conv", shape, config.adapter_stride, options);
    this.selfAttention = new RotatedSelfAttention(scope.scope("self_attn"), { hidden, heads, theta: undefined });
    this.feedForwardNorm = new Norm(scope, "ffn_layer_norm", hidden, epsilon);
    this.feedForward = new FeedForward(scope.scope("ffn"), { hidden, intermediate, bias: true, activation, names: feedForwardNames }, 0);
  }

  /**
   * @param x (frames, hidden)
   * @param shortened where the sequences lie in what is returned, (shortened frames, hidden)
   */
  forward(x: Tensor, offsets: SequenceOffsets, shortened: SequenceOffsets, context: ForwardContext): Tensor {
    const residual = this.shorten(this.residualNorm.forward(x), this.residualConvolution, offsets, context);
    const hidden = this.shorten(this.attentionNorm.forward(x), this.attentionConvolution, offsets, context);
    const attended = this.selfAttention.forward(hidden, residual, shortened, context);
    return this.feedForward.forward(this.feedForwardNorm.forward(attended), attended, [1, 1], context);
  }

  private shorten(x: Tensor, convolution: StridedConvolution, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    const padding = adapterPadding(this.config);
    const padded = padSequences(x, offsets, [padding, padding]);
    return glu(convolution.forward(padded.output, padded.offsets, context).output);
  }

  get convolutions(): readonly StridedConvolution[] {
    return [this.residualConvolution, this.attentionConvolution];
  }

  get linears(): Linear[] {
    return [...this.selfAttention.linears, ...this.feedForward.linears];
  }

  /** The other norms are read by convolutions. */
  get normReaders(): readonly NormReaders[] {
    return readersOf(this.feedForwardNorm.names, [this.feedForward.reader]);
  }
}

export class Adapter {
  /** Where the adapter is of another width than the encoder. */
  private readonly projection: { readonly linear: Linear; readonly norm: Norm } | undefined;
  private readonly layers: readonly AdapterLayer[];

  constructor(
    scope: WeightScope,
    private readonly config: Wav2Vec2BertConfig,
  ) {
    const { hidden_size: hidden, layer_norm_eps: epsilon } = config;
    const output = outputSize(config);
    if (output !== hidden) {
      const linear = new Linear(scope, "proj", [output, hidden], { bias: true });
      this.projection = { linear, norm: new Norm(scope, "proj_layer_norm", output, epsilon) };
    }
    this.layers = Array.from({ length: adapterLayers(config) }, (_, index) => new AdapterLayer(scope.scope(`layers.${index}`), config));
  }

  /** @param x (frames, hidden) what the encoder gave */
  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded {
    const { projection } = this;
    const hidden = projection ? projection.norm.forward(projection.linear.forward(x, context)) : x;
    return this.layers.reduce<Encoded>(
      (input, layer) => {
        const shortened = new SequenceOffsets(input.offsets.lengths.map((length) => shortenedLength(length, this.config)));
        const step = (): Tensor => layer.forward(input.hidden, input.offsets, shortened, context);
        return { hidden: withSequences(shortened, () => releaseUnlessRecording(step)), offsets: shortened };
      },
      { hidden, offsets },
    );
  }

  get convolutions(): readonly StridedConvolution[] {
    return this.layers.flatMap((layer) => layer.convolutions);
  }

  /** The linear layers of the adapter layers. */
  get linears(): Linear[] {
    return this.layers.flatMap((layer) => layer.linears);
  }

  get projections(): readonly Linear[] {
    return this.projection ? [this.projection.linear] : [];
  }

  get normReaders(): readonly NormReaders[] {
    return this.layers.flatMap((layer) => layer.normReaders);
  }
}
