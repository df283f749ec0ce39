/** The Conformer of w2v-BERT 2.0 (`Wav2Vec2BertEncoder` in transformers; Seamless Communication et al. 2023). */
import { CausalConvolutionModule } from "../../nn/causal_convolution_module.js";
import { ClippedRelativeAttention } from "../../nn/clipped_relative_attention.js";
import { ConformerBlock, type AttentionModule } from "../../nn/conformer_block.js";
import { wav2vec2ConformerNames, wav2vec2RelativeNames } from "../../nn/conformer_names.js";
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import type { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { RelativePositions, type PositionTable } from "../../nn/relative_positions.js";
import { RelativeSelfAttention } from "../../nn/relative_self_attention.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { activeTape, releaseUnlessRecording } from "../../ops/tape.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import { RotatedSelfAttention } from "../wav2vec2/rotated_self_attention.js";
import type { Wav2Vec2BertConfig } from "./wav2vec2_bert_config.js";

export class Wav2Vec2BertEncoder {
  /** Checkpoint names: "wav2vec2_bert.encoder.layers.0". */
  readonly blockNames: readonly string[];
  private readonly blocks: readonly ConformerBlock[];
  /** Of `position_embeddings_type` "relative_key". */
  private readonly clipped: ClippedRelativeAttention[] = [];
  /** Of `position_embeddings_type` "relative". */
  private readonly positions: RelativePositions | undefined;

  constructor(
    scope: WeightScope,
    private readonly config: Wav2Vec2BertConfig,
  ) {
    const { hidden_size: hidden, hidden_act: activation, layer_norm_eps: layerNormEpsilon, conv_depthwise_kernel_size: kernel } = config;
    const sizes = {
      names: wav2vec2ConformerNames,
      activation,
      hidden,
      intermediate: config.intermediate_size,
      kernel,
      bias: false,
      feedForwardBias: true,
      convolutionBias: false,
      normBias: true,
      layerNormEpsilon,
      feedForwardResidualWeights: [1, 0.5],
      convolutionResidualWeights: [1, 1],
      activationDropout: 0,
    } as const;
    const positionLayers: Linear[] = [];
    const selfAttention = (inner: WeightScope): AttentionModule => this.selfAttention(inner, positionLayers);
    const convolution = (inner: WeightScope): CausalConvolutionModule =>
      new CausalConvolutionModule(inner, { hidden, kernel, activation, layerNormEpsilon });
    const layers = Array.from({ length: config.num_hidden_layers }, (_, index) => `layers.${index}`);
    this.blocks = layers.map((name) => new ConformerBlock(scope.scope(name), sizes, selfAttention, convolution));
    this.blockNames = layers.map((name) => scope.nameOf(name));
    this.positions = config.position_embeddings_type === "relative" ? new RelativePositions(hidden, positionLayers) : undefined;
  }

  private selfAttention(scope: WeightScope, positionLayers: Linear[]): AttentionModule {
    const { hidden_size: hidden, num_attention_heads: heads, position_embeddings_type: kind, ...others } = this.config;
    if (kind === "relative_key") {
      const reach = [others.left_max_position_embeddings, others.right_max_position_embeddings] as const;
      const module = new ClippedRelativeAttention(scope, { hidden, heads, reach });
      this.clipped.push(module);
      return module;
    }
    if (kind !== "relative")
      return new RotatedSelfAttention(scope, { hidden, heads, theta: kind ? others.rotary_embedding_base : undefined });
    const sizes = { hidden, heads, keyValueHeads: heads, headDimension: hidden / heads, bias: true, names: wav2vec2RelativeNames };
    const module = new RelativeSelfAttention(scope, sizes);
    positionLayers.push(module.position);
    return module;
  }

  /** @param x (frames, hidden); returns the same shape */
  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer?: InspectLayer): Tensor {
    const placed = this.placed(offsets, x.device, context);
    return this.blocks.reduce((input, block, index) => {
      const output = releaseUnlessRecording(() => block.forward(input, offsets, placed));
      inspectLayer?.(output, index);
      if (input !== x && !inspectLayer && !activeTape()) input.dispose();
      return output;
    }, x);
  }

  /** What block `index` makes of (frames, hidden). */
  runBlock(index: number, x: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    return (this.blocks[index] as ConformerBlock).forward(x, offsets, this.placed(offsets, x.device, context));
  }

  private placed(offsets: SequenceOffsets, device: Tensor["device"], context: ForwardContext): ForwardContext {
    const furthest = Math.max(1, ...offsets.lengths) - 1;
    const positions: PositionTable | undefined = this.positions?.forDistances(furthest, furthest, device);
    return positions ? { ...context, positions } : context;
  }

  /** The linear layers of the blocks. */
  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }

  get normReaders(): readonly NormReaders[] {
    return this.blocks.flatMap((block) => block.normReaders);
  }

  /** To be called after weights changed by other means than a training step. */
  weightsChanged(): void {
    for (const module of this.clipped) module.forgetDistances();
  }

  /** Gives back the memory of what was made for positions. */
  dispose(): void {
    this.weightsChanged();
    this.positions?.dispose();
  }
}
