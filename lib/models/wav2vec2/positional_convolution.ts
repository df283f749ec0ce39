/** What wav2vec 2.0 has instead of positions: a wide grouped convolution. */
import { DeviceTensor } from "../../device/device_tensor.js";
import { groupedConvolutionOnGpu } from "../../device/inference.js";
import { removeFromGpu } from "../../device/placement.js";
import { activated, type ActivationName } from "../../nn/activated_linear.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { batchNorm } from "../../ops/batch_norm.js";
import { trainedGroupedConvolution } from "../../ops/device_grouped_convolution.js";
import { scaledSum } from "../../ops/elementwise.js";
import { geluOf } from "../../ops/gelu.js";
import { groupedConvolution } from "../../ops/grouped_convolution.js";
import { swapLastAxes } from "../../ops/swap_axes.js";
import { activeTape } from "../../ops/tape.js";
import { weightNorm } from "../../ops/weight_norm.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import { keep, tidy } from "../../tensor/scope.js";
import type { Tensor } from "../../tensor/tensor.js";

// The same two tensors have other names since PyTorch 2.
const spellings = [
  { gain: "parametrizations.weight.original0", direction: "parametrizations.weight.original1" },
  { gain: "weight_g", direction: "weight_v" },
] as const;

// torch.nn.BatchNorm1d's default, which this family does not configure.
const batchNormEpsilon = 1e-5;

interface PositionalConvolutionSizes {
  readonly hidden: number;
  readonly kernel: number;
  readonly groups: number;
  /**
   * true: batch normalization before the convolution (mHuBERT, Boito et al. 2024), whose running statistics training keeps; false: weight
   * normalization of its weight (Salimans, Kingma 2016).
   */
  readonly batchNorm: boolean;
  readonly activation: ActivationName;
}

export class PositionalConvolution {
  private readonly norm: BatchNorm | undefined;
  /** Makes (out, in / groups, kernel) of the parameters; where they are trained on the GPU, (out, kernel * in / groups). */
  private readonly parameterWeight: () => Tensor;
  private readonly bias: Tensor;
  /** (out, kernel, in / groups), made of the parameters when first used. */
  private weight: Tensor | undefined;

  /** @param scope of the convolution and its batch normalization */
  constructor(
    scope: WeightScope,
    private readonly sizes: PositionalConvolutionSizes,
  ) {
    const { hidden, kernel, groups } = sizes;
    const convolution = scope.scope("conv");
    const shape = [hidden, hidden / groups, kernel] as const;
    if (sizes.batchNorm) {
      this.norm = new BatchNorm(scope.scope("batch_norm"), hidden);
      const weight = convolution.tensor("weight", shape, "fanIn");
      this.parameterWeight = () => weight;
    } else {
      const names = spellings.find(({ direction }) => convolution.has(direction)) ?? spellings[0];
      const gain = convolution.tensor(names.gain, [1, 1, kernel], "ones");
      const direction = convolution.tensor(names.direction, shape, "fanIn");
      this.parameterWeight = () => weightNorm(gain, direction); // each tap as long as `gain` says, over all outputs and inputs
    }
    this.bias = convolution.tensor("bias", [hidden], "zeros");
  }

  /** `x + activation(convolution(x))`, of batch-normalized `x` where that is; (frames, hidden) */
  forward(x: Tensor, offsets: SequenceOffsets): Tensor {
    const { groups, kernel, activation } = this.sizes;
    // An even kernel gives one frame too many, of which the last is dropped: all zeros but half a kernel lie before a sequence.
    const options = { groups, leftPadding: Math.floor(kernel / 2) };
    const weight = this.currentWeight();
    // Not folded into the convolution: the zeros around a sequence are not normalized.
    const input = this.norm?.forward(x) ?? x;
    if (input instanceof DeviceTensor && weight instanceof DeviceTensor)
      return trainedGroupedConvolution(input, weight, this.bias, offsets, { ...options, activation, residual: x });
    if (input instanceof DeviceTensor && activation === "gelu")
      return groupedConvolutionOnGpu(input, weight, this.bias, offsets, { ...options, residual: x });
    const convolved =
      input instanceof DeviceTensor
        ? groupedConvolutionOnGpu(input, weight, this.bias, offsets, options)
        : groupedConvolution(input, weight, this.bias, offsets, options);
    return scaledSum(x, 1, activation === "gelu" ? geluOf(convolved) : activated(convolved, activation), 1);
  }

  /** Gives back the memory of what was made from weights; to be called when they changed. */
  forgetWeight(): void {
    if (!this.weight) return;
    removeFromGpu(this.weight);
    this.weight.dispose();
    this.weight = undefined;
  }

  private currentWeight(): Tensor {
    // A parameter that needs no arranging must not be kept as if it had been made here.
    if (activeTape() || (this.sizes.batchNorm && this.parameterWeight() instanceof DeviceTensor)) {
      this.forgetWeight();
      return this.arrangedWeight();
    }
    return (this.weight ??= keep(tidy(() => this.arrangedWeight())));
  }

  /** As the convolution takes it: tap after tap. */
  private arrangedWeight(): Tensor {
    const weight = this.parameterWeight();
    return weight instanceof DeviceTensor ? weight : swapLastAxes(weight); // on the GPU it lies so already
  }
}

/** Normalizes with the statistics of the checkpoint, in training as well: batches of a fine-tuning run are small. */
class BatchNorm {
  private readonly weight: Tensor;
  private readonly bias: Tensor;
  private readonly statistics: { readonly runningMean: Tensor; readonly runningVariance: Tensor };

  constructor(scope: WeightScope, channels: number) {
    this.weight = scope.tensor("weight", [channels], "ones");
    this.bias = scope.tensor("bias", [channels], "zeros");
    this.statistics = {
      runningMean: scope.tensor("running_mean", [channels], "zeros"),
      runningVariance: scope.tensor("running_var", [channels], "ones"),
    };
  }

  /** (frames, channels) */
  forward(x: Tensor): Tensor {
    return batchNorm(x, this.weight, this.bias, { ...this.statistics, training: false, momentum: 0, epsilon: batchNormEpsilon });
  }
}
