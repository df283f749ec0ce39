/** The convolution module of a Conformer block (Gulati et al. 2020, section 2.2), with batch normalization. */
import { batchNorm, foldBatchNorm } from "../ops/batch_norm.js";
import { depthwiseConvolution } from "../ops/depthwise_convolution.js";
import { glu } from "../ops/activation.js";
import { geluInPlace } from "../ops/gelu.js";
import { removeFromGpu } from "../device/placement.js";
import { keep } from "../tensor/scope.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { activated, type ActivationName } from "./activated_linear.js";
import type { ConvolutionPart } from "./conformer_block.js";
import type { ForwardContext } from "./forward_context.js";
import { Linear } from "./linear.js";
import type { WeightScope } from "./weight_source.js";

export interface ConvolutionModuleSizes {
  readonly hidden: number;
  readonly kernel: number;
  readonly bias: boolean;
  /** Share of a training batch in the running statistics; default 0.1. */
  readonly batchNormMomentum?: number;
  /** Training keeps the running statistics and normalizes with them, as inference does: batches of a fine-tuning run are small. */
  readonly frozenStatistics?: boolean;
  /** After the batch normalization. */
  readonly activation: ActivationName;
  /** What the checkpoint calls the batch normalization. */
  readonly batchNormName: string;
}

// torch.nn.BatchNorm1d's default, which this model family does not configure.
const batchNormEpsilon = 1e-5;

export class ConvolutionModule implements ConvolutionPart {
  private readonly pointwise1: Linear;
  private readonly depthwise: { weight: Tensor; bias: Tensor | undefined };
  private readonly norm: { weight: Tensor; bias: Tensor; runningMean: Tensor; runningVariance: Tensor };
  private readonly pointwise2: Linear;
  private folded: { weight: Tensor; bias: Tensor } | undefined;

  constructor(
    scope: WeightScope,
    private readonly sizes: ConvolutionModuleSizes,
  ) {
    const { hidden, kernel, bias, batchNormName } = sizes;
    this.pointwise1 = new Linear(scope, "pointwise_conv1", [2 * hidden, hidden, 1], { bias });
    this.depthwise = {
      weight: scope.tensor("depthwise_conv.weight", [hidden, 1, kernel], "fanIn"),
      bias: bias ? scope.tensor("depthwise_conv.bias", [hidden], "zeros") : undefined,
    };
    this.norm = {
      weight: scope.tensor(`${batchNormName}.weight`, [hidden], "ones"),
      bias: scope.tensor(`${batchNormName}.bias`, [hidden], "zeros"),
      runningMean: scope.tensor(`${batchNormName}.running_mean`, [hidden], "zeros"),
      runningVariance: scope.tensor(`${batchNormName}.running_var`, [hidden], "ones"),
    };
    this.pointwise2 = new Linear(scope, "pointwise_conv2", [hidden, hidden, 1], { bias });
  }

  /**
   * `residualScale * residual + scale * P2 activation(batchNorm(depthwise(glu(P1 normalized))))`
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
    const gated = this.pointwise1.forward(normalized, context); // (frames, 2 * hidden): values, and their gates
    const convolved = context.random ? this.trainingConvolution(glu(gated), offsets, context) : this.inferenceConvolution(gated, offsets);
    return this.pointwise2.forward(convolved, context, { residual, residualScale, scale });
  }

  /** The layer that multiplies `normalized`. */
  get reader(): Linear {
    return this.pointwise1;
  }

  get linears(): Linear[] {
    return [this.pointwise1, this.pointwise2];
  }

  /** To be called when weights or running statistics changed by other means than training through this object. */
  forgetFolded(): void {
    for (const part of this.folded ? [this.folded.weight, this.folded.bias] : []) {
      removeFromGpu(part);
      part.dispose();
    }
    this.folded = undefined;
  }

  private trainingConvolution(gated: Tensor, offsets: SequenceOffsets, { keepStatistics = false }: ForwardContext): Tensor {
    this.forgetFolded();
    const { weight, bias } = this.depthwise;
    const { activation, batchNormMomentum = 0.1, frozenStatistics = false } = this.sizes;
    const normalized = batchNorm(depthwiseConvolution(gated, weight, offsets, bias ? { bias } : {}), this.norm.weight, this.norm.bias, {
      epsilon: batchNormEpsilon,
      momentum: batchNormMomentum,
      activation: activation === "silu" ? activation : "none",
      training: !frozenStatistics && !keepStatistics && gated.dim(0) > 1, // a batch of one frame has no variance
      runningMean: this.norm.runningMean,
      runningVariance: this.norm.runningVariance,
    });
    return activation === "silu" ? normalized : activated(normalized, activation);
  }

  private inferenceConvolution(gated: Tensor, offsets: SequenceOffsets): Tensor {
    if (!this.folded) {
      const { weight, bias } = foldBatchNorm(this.depthwise.weight, this.depthwise.bias, {
        ...this.norm,
        epsilon: batchNormEpsilon,
      });
      this.folded = { weight: keep(weight), bias: keep(bias) };
    }
    const { activation } = this.sizes;
    const options = { bias: this.folded.bias, activation: activation === "silu" ? activation : "none", gated: true } as const;
    const convolved = depthwiseConvolution(gated, this.folded.weight, offsets, options);
    if (activation === "gelu") geluInPlace(convolved);
    return activation === "relu" ? activated(convolved, activation) : convolved;
  }
}
