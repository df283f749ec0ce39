/** One Conformer block: half feed-forward, self-attention, convolution, half feed-forward (Gulati et al. 2020). */
import { DeviceTensor } from "../device/device_tensor.js";
import { layerNormTwiceOnGpu } from "../device/inference.js";
import { layerNorm } from "../ops/layer_norm.js";
import { activeTape, releaseUnlessRecording } from "../ops/tape.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ConformerNames } from "./conformer_names.js";
import { ConvolutionModule, type ConvolutionModuleSizes } from "./convolution_module.js";
import { FeedForward } from "./feed_forward.js";
import type { ForwardContext } from "./forward_context.js";
import type { Linear } from "./linear.js";
import { readersOf, type NormReaders } from "./norm_readers.js";
import type { WeightScope } from "./weight_source.js";

/** The convolution of a block; families differ in how they normalize it, and in the frames that it sees. */
export interface ConvolutionPart {
  /**
   * `residualScale * residual + scale * convolution(normalized)` within each sequence.
   * @param normalized (frames, hidden)
   * @param residual (frames, hidden)
   */
  forward(
    normalized: Tensor,
    residual: Tensor,
    offsets: SequenceOffsets,
    scales: readonly [residualScale: number, scale: number],
    context: ForwardContext,
  ): Tensor;
  readonly linears: readonly Linear[];
  /** The layer that multiplies `normalized`. */
  readonly reader: Linear;
  /** To be called when weights or running statistics changed by other means than training through this object. */
  forgetFolded(): void;
}

/** The self-attention of a block; families differ in how it knows positions. */
export interface AttentionModule {
  /**
   * `residual + Wo attention(normalized)` within each sequence.
   * @param normalized (frames, hidden)
   * @param residual (frames, hidden)
   */
  forward(normalized: Tensor, residual: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor;
  readonly linears: readonly Linear[];
  /** The layers that multiply `normalized` as it is; none where something else is made of it too. */
  readonly readers: readonly Linear[];
}

interface ConformerBlockSizes extends Omit<ConvolutionModuleSizes, "batchNormName"> {
  readonly names: ConformerNames;
  readonly intermediate: number;
  /** Of the feed-forward modules. */
  readonly feedForwardBias: boolean;
  readonly convolutionBias: boolean;
  readonly normBias: boolean;
  readonly layerNormEpsilon: number;
  /** [residual, output] of both feed-forward modules: 1.5 and 0.5 in LASR. */
  readonly feedForwardResidualWeights: readonly [number, number];
  /** [residual, output] of the convolution module: 2 and 1 in LASR. */
  readonly convolutionResidualWeights: readonly [number, number];
  readonly activationDropout: number;
}

interface Norm {
  /** Of its tensors, in checkpoints. */
  readonly names: readonly string[];
  readonly weight: Tensor;
  readonly bias?: Tensor;
}

/** What goes from block to block. */
export interface BetweenBlocks {
  /** (frames, hidden) */
  readonly hidden: Tensor;
  /** What the first normalization of the block that comes next makes of `hidden`, where that was done with the block before. */
  readonly normalized?: Tensor | undefined;
}

export class ConformerBlock {
  readonly convolution: ConvolutionPart;
  private readonly feedForward1: FeedForward;
  private readonly selfAttention: AttentionModule;
  private readonly feedForward2: FeedForward;
  private readonly norms: Record<"feedForward1" | "selfAttention" | "convolution" | "feedForward2" | "output", Norm>;

  constructor(
    scope: WeightScope,
    private readonly sizes: ConformerBlockSizes,
    selfAttention: (scope: WeightScope) => AttentionModule,
    convolution: (scope: WeightScope) => ConvolutionPart = (inner) =>
      new ConvolutionModule(inner, { ...sizes, bias: sizes.convolutionBias, batchNormName: sizes.names.batchNorm }),
  ) {
    const { hidden, intermediate, feedForwardBias, normBias, activation, activationDropout, names } = sizes;
    const norm = (name: string): Norm => ({
      names: (normBias ? ["weight", "bias"] : ["weight"]).map((part) => scope.nameOf(`${name}.${part}`)),
      weight: scope.tensor(`${name}.weight`, [hidden], "ones"),
      ...(normBias ? { bias: scope.tensor(`${name}.bias`, [hidden], "zeros") } : {}),
    });
    const feedForwardSizes = { hidden, intermediate, bias: feedForwardBias, activation, names };
    this.feedForward1 = new FeedForward(scope.scope(names.feedForward1), feedForwardSizes, activationDropout);
    this.selfAttention = selfAttention(scope.scope(names.selfAttention));
    this.convolution = convolution(scope.scope(names.convolution));
    this.feedForward2 = new FeedForward(scope.scope(names.feedForward2), feedForwardSizes, activationDropout);
    this.norms = {
      feedForward1: norm(names.norms.feedForward1),
      selfAttention: norm(names.norms.selfAttention),
      convolution: norm(names.norms.convolution),
      feedForward2: norm(names.norms.feedForward2),
      output: norm(names.norms.output),
    };
  }

  /** @param x (frames, hidden); returns the same shape */
  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    return this.forwardTo(undefined, { hidden: x }, offsets, context).hidden;
  }

  /**
   * The same, between other blocks: in inference on the GPU the normalization at the end and the first one of `next`, which follows, are one
   * launch.
   */
  forwardTo(
    next: ConformerBlock | undefined,
    { hidden: x, normalized }: BetweenBlocks,
    offsets: SequenceOffsets,
    context: ForwardContext,
  ): BetweenBlocks {
    const { feedForwardResidualWeights, convolutionResidualWeights, layerNormEpsilon: epsilon } = this.sizes;
    const normalize = (input: Tensor, { weight, bias }: Norm): Tensor => layerNorm(input, weight, { bias, epsilon });
    const end = (x: Tensor): BetweenBlocks => {
      if (!next || !(x instanceof DeviceTensor) || activeTape()) return { hidden: normalize(x, this.norms.output) };
      const [hidden, ofNext] = layerNormTwiceOnGpu(x, this.norms.output, next.norms.feedForward1, epsilon);
      return { hidden, normalized: ofNext };
    };
    const modules = [
      (x: Tensor) => this.feedForward1.forward(normalized ?? normalize(x, this.norms.feedForward1), x, feedForwardResidualWeights, context),
      (x: Tensor) => this.selfAttention.forward(normalize(x, this.norms.selfAttention), x, offsets, context),
      (x: Tensor) => this.convolution.forward(normalize(x, this.norms.convolution), x, offsets, convolutionResidualWeights, context),
      (x: Tensor) => this.feedForward2.forward(normalize(x, this.norms.feedForward2), x, feedForwardResidualWeights, context),
    ];
    return releaseUnlessRecording(() => end(modules.reduce((hidden, module) => releaseUnlessRecording(() => module(hidden)), x)));
  }

  /** The layers that compression applies to. */
  get linears(): Linear[] {
    return [...this.feedForward1.linears, ...this.selfAttention.linears, ...this.convolution.linears, ...this.feedForward2.linears];
  }

  /** Of all norms but the one at the end: the next block adds its output to what its modules make of it. */
  get normReaders(): readonly NormReaders[] {
    const { norms } = this;
    return [
      ...readersOf(norms.feedForward1.names, [this.feedForward1.reader]),
      ...readersOf(norms.selfAttention.names, this.selfAttention.readers),
      ...readersOf(norms.convolution.names, [this.convolution.reader]),
      ...readersOf(norms.feedForward2.names, [this.feedForward2.reader]),
    ];
  }
}
