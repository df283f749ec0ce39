/** The Transformer and Conformer encoders of wav2vec 2.0 and HuBERT (`Wav2Vec2Encoder`, .. in transformers). */
import { ConformerBlock, type AttentionModule } from "../../nn/conformer_block.js";
import { wav2vec2ConformerNames, wav2vec2RelativeNames } from "../../nn/conformer_names.js";
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import type { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { RelativePositions, type PositionTable } from "../../nn/relative_positions.js";
import { RelativeSelfAttention } from "../../nn/relative_self_attention.js";
import { Norm, TransformerBlock } from "../../nn/transformer_block.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { activeTape, releaseUnlessRecording } from "../../ops/tape.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import { LanguageAdapter } from "./language_adapter.js";
import { PositionalConvolution } from "./positional_convolution.js";
import { RotatedSelfAttention } from "./rotated_self_attention.js";
import { languageAdapterSize, type Wav2Vec2Config } from "./wav2vec2_config.js";

export interface Encoder {
  /** @param x (frames, hidden); returns the same shape */
  forward(x: Tensor, offsets: SequenceOffsets, context?: ForwardContext, inspectLayer?: InspectLayer): Tensor;
  /** What the first block is given, of (frames, hidden); returns the same shape. It may be `x` itself. */
  place(x: Tensor, offsets: SequenceOffsets): Tensor;
  /** What block `index` makes of (frames, hidden). */
  runBlock(index: number, x: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor;
  /** Checkpoint names: "wav2vec2.encoder.layers.0". */
  readonly blockNames: readonly string[];
  /** The linear layers of the blocks. */
  readonly linears: readonly Linear[];
  /** Those among them that are for the language: too small to be compressed unless a recipe names them. */
  readonly languageLinears: readonly Linear[];
  readonly normReaders: readonly NormReaders[];
  /** To be called after weights changed by other means than a training step. */
  weightsChanged(): void;
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

/** A block, and what follows it for the language. */
class Wav2Vec2Block {
  constructor(
    readonly transformer: TransformerBlock,
    readonly language: LanguageAdapter | undefined,
  ) {}

  /** (frames, hidden) */
  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    const y = this.transformer.forward(x, offsets, context);
    return this.language?.forward(y, context) ?? y;
  }
}

/** Of `wav2vec2` and `hubert`. */
export class Wav2Vec2Encoder implements Encoder {
  readonly blockNames: readonly string[];
  private readonly positions: PositionalConvolution;
  private readonly norm: Norm;
  private readonly blocks: readonly Wav2Vec2Block[];

  constructor(
    scope: WeightScope,
    private readonly config: Wav2Vec2Config,
  ) {
    const { hidden_size: hidden, layer_norm_eps } = config;
    this.positions = new PositionalConvolution(scope.scope("pos_conv_embed"), {
      hidden,
      kernel: config.num_conv_pos_embeddings,
      groups: config.num_conv_pos_embedding_groups,
      batchNorm: config.model_type === "hubert" && config.conv_pos_batch_norm,
      activation: config.feat_extract_activation,
    });
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
    const layers = Array.from({ length: config.num_hidden_layers }, (_, index) => `layers.${index}`);
    const adapterSize = languageAdapterSize(config);
    this.blocks = layers.map((name) => {
      const inner = scope.scope(name);
      const transformer = new TransformerBlock(inner, sizes);
      const language = adapterSize === undefined ? undefined : new LanguageAdapter(inner.scope("adapter_layer"), hidden, adapterSize);
      return new Wav2Vec2Block(transformer, language);
    });
    this.blockNames = layers.map((name) => scope.nameOf(name));
  }

  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext = {}, inspectLayer?: InspectLayer): Tensor {
    return released(inspectLayer, () => {
      const step = (block: Wav2Vec2Block, input: Tensor): Tensor => block.forward(input, offsets, context);
      const y = throughBlocks(this.blocks, this.place(x, offsets), step, inspectLayer);
      return this.config.do_stable_layer_norm ? this.norm.forward(y) : y;
    });
  }

  place(x: Tensor, offsets: SequenceOffsets): Tensor {
    const placed = this.positions.forward(x, offsets);
    return this.config.do_stable_layer_norm ? placed : this.norm.forward(placed);
  }

  runBlock(index: number, x: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    return (this.blocks[index] as Wav2Vec2Block).forward(x, offsets, context);
  }

  get linears(): Linear[] {
    return this.blocks.flatMap(({ transformer, language }) => [...transformer.linears, ...(language?.linears ?? [])]);
  }

  get languageLinears(): Linear[] {
    return this.blocks.flatMap(({ language }) => language?.linears ?? []);
  }

  get normReaders(): readonly NormReaders[] {
    return this.blocks.flatMap(({ transformer, language }) => [...transformer.normReaders, ...(language?.normReaders ?? [])]);
  }

  weightsChanged(): void {
    this.positions.forgetWeight();
  }

  dispose(): void {
    this.weightsChanged();
  }
}

/** Of `wav2vec2-conformer`. */
export class Wav2Vec2ConformerEncoder implements Encoder {
  readonly blockNames: readonly string[];
  readonly languageLinears: readonly Linear[] = [];
  private readonly positions: RelativePositions | undefined;
  private readonly norm: Norm;
  private readonly blocks: readonly ConformerBlock[];

  constructor(scope: WeightScope, config: Wav2Vec2Config) {
    const { hidden_size: hidden, num_attention_heads: heads } = config;
    const relative = config.position_embeddings_type === "relative";
    this.norm = new Norm(scope, "layer_norm", hidden, config.layer_norm_eps);
    const sizes = {
      names: wav2vec2ConformerNames,
      activation: config.hidden_act,
      hidden,
      intermediate: config.intermediate_size,
      kernel: config.conv_depthwise_kernel_size,
      bias: false,
      feedForwardBias: true,
      convolutionBias: false,
      normBias: true,
      layerNormEpsilon: 1e-5, // torch's default, which the blocks of this family keep
      batchNormMomentum: 0.1,
      frozenStatistics: true,
      feedForwardResidualWeights: [1, 0.5],
      convolutionResidualWeights: [1, 1],
      activationDropout: 0,
    } as const;
    const attentionSizes = { hidden, heads, keyValueHeads: heads, headDimension: hidden / heads, bias: true, names: wav2vec2RelativeNames };
    const theta = config.position_embeddings_type === "rotary" ? config.rotary_embedding_base : undefined;
    const positionLayers: Linear[] = [];
    const selfAttention = (inner: WeightScope): AttentionModule => {
      if (!relative) return new RotatedSelfAttention(inner, { hidden, heads, theta });
      const module = new RelativeSelfAttention(inner, attentionSizes);
      positionLayers.push(module.position);
      return module;
    };
    const layers = Array.from({ length: config.num_hidden_layers }, (_, index) => `layers.${index}`);
    this.blocks = layers.map((name) => new ConformerBlock(scope.scope(name), sizes, selfAttention));
    this.blockNames = layers.map((name) => scope.nameOf(name));
    this.positions = relative ? new RelativePositions(hidden, positionLayers) : undefined;
  }

  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext = {}, inspectLayer?: InspectLayer): Tensor {
    return released(inspectLayer, () => {
      const table = this.positionsFor(offsets, x.device);
      const positions = table && this.positions?.withKeys(table, context);
      const placed = positions ? { ...context, positions } : context;
      return this.norm.forward(throughBlocks(this.blocks, x, (block, input) => block.forward(input, offsets, placed), inspectLayer));
    });
  }

  place(x: Tensor): Tensor {
    return x;
  }

  runBlock(index: number, x: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    const positions = this.positionsFor(offsets, x.device);
    return (this.blocks[index] as ConformerBlock).forward(x, offsets, positions ? { ...context, positions } : context);
  }

  private positionsFor(offsets: SequenceOffsets, device: Tensor["device"]): PositionTable | undefined {
    const longest = Math.max(1, ...offsets.lengths);
    return this.positions?.forDistances(longest - 1, longest - 1, device);
  }

  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }

  get normReaders(): readonly NormReaders[] {
    return this.blocks.flatMap((block) => block.normReaders);
  }

  weightsChanged(): void {
    for (const block of this.blocks) block.convolution.forgetFolded();
  }

  dispose(): void {
    this.positions?.dispose();
    this.weightsChanged();
  }
}

/** What `body` makes on the way is released, unless a tape or `inspectLayer` may need it. */
const released = (inspectLayer: InspectLayer | undefined, body: () => Tensor): Tensor =>
  inspectLayer ? body() : releaseUnlessRecording(body);

/** Block after block, each input released once its output is there unless something else may need it. */
function throughBlocks<Block>(
  blocks: readonly Block[],
  x: Tensor,
  step: (block: Block, x: Tensor) => Tensor,
  inspectLayer?: InspectLayer,
): Tensor {
  return blocks.reduce((input, block, index) => {
    const output = releaseUnlessRecording(() => step(block, input));
    inspectLayer?.(output, index);
    if (input !== x && !inspectLayer && !activeTape()) input.dispose();
    return output;
  }, x);
}
