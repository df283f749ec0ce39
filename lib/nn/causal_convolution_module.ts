/**
 * The convolution module of a Conformer block (Gulati et al. 2020, section 2.2) that sees no frames to come, with layer normalization in
 * place of batch normalization: that of w2v-BERT 2.0 (Seamless Communication et al. 2023).
 */
import { depthwiseConvolution } from "../ops/depthwise_convolution.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { activated, type ActivationName } from "./activated_linear.js";
import type { ConvolutionPart } from "./conformer_block.js";
import type { ForwardContext } from "./forward_context.js";
import { Linear } from "./linear.js";
import { Norm } from "./transformer_block.js";
import type { WeightScope } from "./weight_source.js";

interface CausalConvolutionSizes {
  readonly hidden: number;
  readonly kernel: number;
  readonly activation: ActivationName;
  readonly layerNormEpsilon: number;
}

export class CausalConvolutionModule implements ConvolutionPart {
  private readonly pointwise1: Linear;
  /** (hidden, 1, kernel) */
  private readonly depthwise: Tensor;
  private readonly norm: Norm;
  private readonly pointwise2: Linear;

  constructor(
    scope: WeightScope,
    private readonly sizes: CausalConvolutionSizes,
  ) {
    const { hidden, kernel, layerNormEpsilon } = sizes;
    this.pointwise1 = new Linear(scope, "pointwise_conv1", [2 * hidden, hidden, 1], { bias: false });
    this.depthwise = scope.tensor("depthwise_conv.weight", [hidden, 1, kernel], "fanIn");
    this.norm = new Norm(scope, "depthwise_layer_norm", hidden, layerNormEpsilon);
    this.pointwise2 = new Linear(scope, "pointwise_conv2", [hidden, hidden, 1], { bias: false });
  }

  /**
   * `residualScale * residual + scale * P2 activation(layerNorm(depthwise(glu(P1 normalized))))`
   * @param normalized (frames, hidden)
   * @param residual (frames, hidden)
   */
  forward(
    normalized: Tensor,
    residual: Tensor,
    offsets: SequenceOffsets,
    [residualScale, scale]: readonly [number, number],
    context: ForwardContext,
  ): Tensor {
    const { kernel, activation } = this.sizes;
    const gated = this.pointwise1.forward(normalized, context); // (frames, 2 * hidden): values, and their gates
    const convolved = depthwiseConvolution(gated, this.depthwise, offsets, { gated: true, leftPadding: kernel - 1 });
    const hidden = activated(this.norm.forward(convolved), activation);
    return this.pointwise2.forward(hidden, context, { residual, residualScale, scale });
  }

  get reader(): Linear {
    return this.pointwise1;
  }

  get linears(): Linear[] {
    return [this.pointwise1, this.pointwise2];
  }

  /** Nothing is folded: layer normalization depends on the frame. */
  forgetFolded(): void {}
}
