/** The FastConformer encoder of NVIDIA's Parakeet models (`ParakeetEncoder` in transformers). */
import { DeviceTensor } from "../../device/device_tensor.js";
import { RecordedPasses } from "../../device/recorded_passes.js";
import { activeAdapters } from "../../nn/adapter_scope.js";
import { type BetweenBlocks, ConformerBlock } from "../../nn/conformer_block.js";
import { conformerNames } from "../../nn/conformer_names.js";
import { DepthwiseStridingSubsampling } from "../../nn/depthwise_striding_subsampling.js";
import type { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { RelativePositions, type PositionTable } from "../../nn/relative_positions.js";
import { RelativeSelfAttention, type RelativeSelfAttentionSizes } from "../../nn/relative_self_attention.js";
import type { WeightScope } from "../../nn/weight_source.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import { activeTape } from "../../ops/tape.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Encoded } from "../speech_network.js";
import { attentionContext, type ParakeetEncoderConfig } from "./parakeet_config.js";

// Fixed in this family; torch's default of layer normalization.
const layerNormEpsilon = 1e-5;

const names = {
  query: "q_proj",
  key: "k_proj",
  value: "v_proj",
  output: "o_proj",
  position: "relative_k_proj",
  contentBias: "bias_u",
  positionBias: "bias_v",
} as const;

export class ParakeetEncoder {
  readonly subsampling: DepthwiseStridingSubsampling;
  readonly blocks: readonly ConformerBlock[];
  readonly blockNames: readonly string[];
  private readonly positions: RelativePositions;
  /** Forward passes on the GPU, which are all for inference. */
  private readonly passes = new RecordedPasses({
    forward: (features, offsets) => this.compute(features, offsets, {}),
    hiddenFrames: (frames) => this.subsampling.outputLength(frames),
  });
  private readonly context: readonly [number, number] | undefined;

  constructor(
    scope: WeightScope,
    private readonly config: ParakeetEncoderConfig,
  ) {
    const hidden = config.hidden_size;
    this.context = attentionContext(config);
    this.subsampling = new DepthwiseStridingSubsampling(scope.scope("subsampling"), {
      melBins: config.num_mel_bins,
      hidden,
      channels: config.subsampling_conv_channels,
      factor: config.subsampling_factor,
    });
    const sizes = {
      names: conformerNames,
      activation: "silu",
      hidden,
      intermediate: config.intermediate_size,
      kernel: config.conv_kernel_size,
      bias: config.convolution_bias,
      feedForwardBias: config.attention_bias,
      convolutionBias: config.convolution_bias,
      normBias: true,
      layerNormEpsilon,
      batchNormMomentum: 0.1,
      frozenStatistics: true,
      feedForwardResidualWeights: [1, 0.5],
      convolutionResidualWeights: [1, 1],
      activationDropout: 0,
    } as const;
    const attentionSizes: RelativeSelfAttentionSizes = {
      hidden,
      heads: config.num_attention_heads,
      keyValueHeads: config.num_key_value_heads ?? config.num_attention_heads,
      headDimension: config.head_dim ?? hidden / config.num_attention_heads,
      bias: config.attention_bias,
      context: this.context,
      names,
    };
    const positionLayers: Linear[] = [];
    const selfAttention = (inner: WeightScope): RelativeSelfAttention => {
      const module = new RelativeSelfAttention(inner, attentionSizes);
      positionLayers.push(module.position);
      return module;
    };
    const layers = Array.from({ length: config.num_hidden_layers }, (_, index) => `layers.${index}`);
    this.blocks = layers.map((name) => new ConformerBlock(scope.scope(name), sizes, selfAttention));
    this.positions = new RelativePositions(hidden, positionLayers);
    this.blockNames = layers.map((name) => scope.nameOf(name));
  }

  /**
   * @param features (frames, mel bins) log-mel frames of all sequences
   * @returns (hidden frames, hidden) and where each sequence lies in them
   */
  forward(features: Tensor, offsets: SequenceOffsets, context: ForwardContext = {}, inspectLayer?: InspectLayer): Encoded {
    const isTrained = this.subsampling.output.weight instanceof DeviceTensor;
    if (features instanceof DeviceTensor && !isTrained && !inspectLayer && !activeAdapters()) return this.passes.run(features, offsets);
    return this.compute(features, offsets, context, inspectLayer);
  }

  private compute(features: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer?: InspectLayer): Encoded {
    const subsampled = this.subsample(features, offsets, context);
    if (subsampled.offsets.frames === 0) return subsampled;
    const positions = this.positions.withKeys(this.positionsFor(subsampled.offsets, features.device), context);
    let x: BetweenBlocks = { hidden: subsampled.hidden };
    this.blocks.forEach((block, index) => {
      const input = x;
      x = block.forwardTo(this.blocks[index + 1], input, subsampled.offsets, { ...context, positions });
      inspectLayer?.(x.hidden, index);
      if (!activeTape() && !inspectLayer) for (const part of [input.hidden, input.normalized]) part?.dispose();
    });
    if (!activeTape()) for (const part of [positions.embeddings, ...(positions.keys?.values() ?? [])]) part.dispose();
    return { hidden: x.hidden, offsets: subsampled.offsets };
  }

  /** What the first block is given. */
  subsample(features: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded {
    const { hidden_size, scale_input } = this.config;
    const { output, offsets: hiddenOffsets } = this.subsampling.forward(
      features,
      offsets,
      context,
      scale_input ? Math.sqrt(hidden_size) : 1,
    );
    return { hidden: output, offsets: hiddenOffsets };
  }

  /** What block `index` makes of (hidden frames, hidden). */
  runBlock(index: number, hidden: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    const positions = this.positionsFor(offsets, hidden.device);
    return (this.blocks[index] as ConformerBlock).forward(hidden, offsets, { ...context, positions });
  }

  private positionsFor(offsets: SequenceOffsets, device: Tensor["device"]): PositionTable {
    const longest = Math.max(...offsets.lengths);
    const [before, after] = this.context ?? [longest - 1, longest - 1];
    return this.positions.forDistances(before, after, device);
  }

  /** The linear layers of the Conformer blocks. */
  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }

  get normReaders(): readonly NormReaders[] {
    return this.blocks.flatMap((block) => block.normReaders);
  }

  /** To be called after weights changed by other means than a training step. */
  weightsChanged(): void {
    this.passes.dispose();
    for (const block of this.blocks) block.convolution.forgetFolded();
  }

  /** Gives back the memory of what was made from weights and for positions. */
  dispose(): void {
    this.weightsChanged();
    this.positions.dispose();
  }
}
