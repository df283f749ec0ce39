/** The Conformer encoder of the LASR family (Google's public Conformer, `LasrEncoder` in transformers). */
import { DeviceTensor } from "../../device/device_tensor.js";
import { RecordedPasses } from "../../device/recorded_passes.js";
import { activeAdapters } from "../../nn/adapter_scope.js";
import { type BetweenBlocks, ConformerBlock } from "../../nn/conformer_block.js";
import { conformerNames } from "../../nn/conformer_names.js";
import { ConvolutionSubsampling } from "../../nn/convolution_subsampling.js";
import { dropoutOptions, type ForwardContext, type InspectLayer } from "../../nn/forward_context.js";
import type { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { SelfAttention } from "../../nn/self_attention.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { dropout } from "../../ops/activation.js";
import { layerNorm } from "../../ops/layer_norm.js";
import { activeTape } from "../../ops/tape.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Encoded } from "../speech_network.js";
import { headDimension, type LasrEncoderConfig } from "./lasr_config.js";

export class LasrEncoder {
  readonly subsampler: ConvolutionSubsampling;
  readonly blocks: readonly ConformerBlock[];
  readonly blockNames: readonly string[];
  private readonly outputNorm: Tensor;
  /** Forward passes on the GPU, which are all for inference. */
  private readonly passes = new RecordedPasses({
    forward: (features, offsets) => this.compute(features, offsets, {}),
    hiddenFrames: (frames) => this.subsampler.outputLength(frames),
  });

  constructor(
    scope: WeightScope,
    private readonly config: LasrEncoderConfig,
  ) {
    const hidden = config.hidden_size;
    this.subsampler = new ConvolutionSubsampling(scope.scope("subsampler"), {
      melBins: config.num_mel_bins,
      hidden,
      channels: config.subsampling_conv_channels,
      kernel: config.subsampling_conv_kernel_size,
      stride: config.subsampling_conv_stride,
    });
    const sizes = {
      names: conformerNames,
      activation: "silu",
      hidden,
      intermediate: config.intermediate_size,
      kernel: config.conv_kernel_size,
      bias: false,
      feedForwardBias: config.attention_bias,
      convolutionBias: config.convolution_bias,
      normBias: false,
      layerNormEpsilon: config.layer_norm_eps,
      batchNormMomentum: config.batch_norm_momentum,
      feedForwardResidualWeights: config.feed_forward_residual_weights,
      convolutionResidualWeights: config.conv_residual_weights,
      activationDropout: config.activation_dropout,
    } as const;
    const attentionSizes = {
      hidden,
      heads: config.num_attention_heads,
      headDimension: headDimension(config),
      bias: config.attention_bias,
      ropeTheta: config.rope_parameters?.rope_theta ?? 10_000,
    };
    const selfAttention = (inner: WeightScope): SelfAttention => new SelfAttention(inner, attentionSizes, config.attention_dropout);
    const layers = Array.from({ length: config.num_hidden_layers }, (_, index) => `layers.${index}`);
    this.blocks = layers.map((name) => new ConformerBlock(scope.scope(name), sizes, selfAttention));
    this.blockNames = layers.map((name) => scope.nameOf(name));
    this.outputNorm = scope.tensor("out_norm.weight", [hidden], "ones");
  }

  /**
   * @param features (frames, mel bins) log-mel frames of all sequences
   * @returns (hidden frames, hidden) and where each sequence lies in them
   */
  forward(features: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer?: InspectLayer): Encoded {
    const isTrained = this.outputNorm instanceof DeviceTensor;
    if (features instanceof DeviceTensor && !isTrained && !inspectLayer && !activeAdapters()) return this.passes.run(features, offsets);
    return this.compute(features, offsets, context, inspectLayer);
  }

  private compute(features: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer?: InspectLayer): Encoded {
    const subsampled = this.subsample(features, offsets, context);
    let x: BetweenBlocks = { hidden: subsampled.hidden };
    this.blocks.forEach((block, index) => {
      // LayerDrop (Fan et al. 2019): a dropped block is the identity.
      if (context.random && !context.withoutDropout && context.random.uniform() < this.config.layerdrop) return;
      const input = x;
      x = block.forwardTo(context.random ? undefined : this.blocks[index + 1], input, subsampled.offsets, context);
      if (inspectLayer) inspectLayer(x.hidden, index);
      else if (!activeTape()) for (const part of [input.hidden, input.normalized]) part?.dispose();
    });
    return {
      hidden: layerNorm(x.hidden, this.outputNorm, { epsilon: this.config.layer_norm_eps }),
      offsets: subsampled.offsets,
    };
  }

  /** What the first block is given: (hidden frames, hidden), and where each sequence lies in them. */
  subsample(features: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded {
    const { output, offsets: hiddenOffsets } = this.subsampler.forward(features, offsets, context);
    const { dropout: inputDropout } = dropoutOptions(context, this.config.dropout);
    return { hidden: inputDropout ? dropout(output, inputDropout) : output, offsets: hiddenOffsets };
  }

  /** What block `index` makes of (hidden frames, hidden). */
  runBlock(index: number, hidden: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    return (this.blocks[index] as ConformerBlock).forward(hidden, offsets, context);
  }

  /** To be called when weights changed or are about to go. */
  weightsChanged(): void {
    this.passes.dispose();
    for (const block of this.blocks) block.convolution.forgetFolded();
  }

  /** The linear layers of the Conformer blocks: what compression applies to. */
  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }

  get normReaders(): readonly NormReaders[] {
    return this.blocks.flatMap((block) => block.normReaders);
  }
}
