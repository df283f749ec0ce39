/** What wav2vec 2.0 has instead of positions: a wide grouped convolution with weight normalization (Salimans, Kingma 2016). */
import { DeviceTensor } from "../../device/device_tensor.js";
import { groupedConvolutionOnGpu } from "../../device/inference.js";
import { removeFromGpu } from "../../device/placement.js";
import type { WeightScope } from "../../nn/weight_source.js";
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

export class PositionalConvolution {
  private readonly gain: Tensor;
  private readonly direction: Tensor;
  private readonly bias: Tensor;
  /** (out, kernel, in / groups), made of the two when first used; where they are on the GPU, (out, kernel * in / groups). */
  private weight: Tensor | undefined;

  constructor(
    scope: WeightScope,
    hidden: number,
    private readonly kernel: number,
    private readonly groups: number,
  ) {
    const names = spellings.find(({ direction }) => scope.has(direction)) ?? spellings[0];
    this.gain = scope.tensor(names.gain, [1, 1, kernel], "ones");
    this.direction = scope.tensor(names.direction, [hidden, hidden / groups, kernel], "fanIn");
    this.bias = scope.tensor("bias", [hidden], "zeros");
  }

  /** `x + gelu(convolution(x))`, (frames, hidden) */
  forward(x: Tensor, offsets: SequenceOffsets): Tensor {
    // An even kernel gives one frame too many, of which the last is dropped: all zeros but half a kernel lie before a sequence.
    const options = { groups: this.groups, leftPadding: Math.floor(this.kernel / 2) };
    const weight = this.currentWeight();
    if (x instanceof DeviceTensor && weight instanceof DeviceTensor)
      return trainedGroupedConvolution(x, weight, this.bias, offsets, { ...options, residual: x });
    if (x instanceof DeviceTensor) return groupedConvolutionOnGpu(x, weight, this.bias, offsets, { ...options, residual: x });
    return scaledSum(x, 1, geluOf(groupedConvolution(x, weight, this.bias, offsets, options)), 1);
  }

  /** Gives back the memory of what was made from weights; to be called when they changed. */
  forgetWeight(): void {
    if (!this.weight) return;
    removeFromGpu(this.weight);
    this.weight.dispose();
    this.weight = undefined;
  }

  private currentWeight(): Tensor {
    if (activeTape()) {
      this.forgetWeight();
      return this.normalizedWeight();
    }
    return (this.weight ??= keep(tidy(() => this.normalizedWeight())));
  }

  /** Each tap has the length that `gain` says over all outputs and inputs. */
  private normalizedWeight(): Tensor {
    const weight = weightNorm(this.gain, this.direction);
    return weight instanceof DeviceTensor ? weight : swapLastAxes(weight); // on the GPU it lies tap after tap
  }
}
