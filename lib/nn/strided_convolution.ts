/** A strided convolution over float, fake-quantized or packed weights. */
import { DeviceTensor } from "../device/device_tensor.js";
import { geluOf } from "../ops/gelu.js";
import { integerSubsamplingConvolution } from "../ops/integer_linear.js";
import { packedSubsamplingConvolution, subsamplingConvolution } from "../ops/subsampling_convolution.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import type { ForwardContext } from "./forward_context.js";
import type { MatrixWeight, WeightScope } from "./weight_source.js";

/** Unpadded convolution along the frames of each sequence, then ReLU unless told otherwise. */
export class StridedConvolution {
  /** Name of the weight in checkpoints, recipes and `inspect`. */
  readonly name: string;
  readonly weight: MatrixWeight;
  private readonly bias: Tensor | undefined;

  /** @param shape (out, in, kernel) */
  constructor(
    scope: WeightScope,
    name: string,
    readonly shape: readonly [out: number, inputs: number, kernel: number],
    private readonly stride: number,
    private readonly options: { readonly activation: "none" | "relu" | "gelu"; readonly bias: boolean } = {
      activation: "relu",
      bias: true,
    },
  ) {
    this.name = scope.nameOf(`${name}.weight`);
    this.weight = scope.matrix(`${name}.weight`, shape, "he");
    this.bias = options.bias ? scope.tensor(`${name}.bias`, [shape[0]], "zeros") : undefined;
  }

  /** @param x (frames, in); returns (output frames, out) and where each sequence now lies */
  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext): { output: Tensor; offsets: SequenceOffsets } {
    const { activation } = this.options;
    if (activation !== "gelu") return this.convolve(x, offsets, context, activation);
    if (x instanceof DeviceTensor) return this.convolve(x, offsets, context, "gelu"); // in the same pass
    const convolved = this.convolve(x, offsets, context, "none");
    return { ...convolved, output: geluOf(convolved.output) };
  }

  private convolve(
    x: Tensor,
    offsets: SequenceOffsets,
    context: ForwardContext,
    activation: "none" | "relu" | "gelu",
  ): { output: Tensor; offsets: SequenceOffsets } {
    const options = { stride: this.stride, activation };
    if (!(this.weight instanceof Tensor)) return packedSubsamplingConvolution(x, this.weight, this.bias, offsets, options);
    const weight = context.transformWeight?.(this.name, this.weight) ?? this.weight;
    const packed = context.packedWeight?.(this.name, weight);
    if (packed) return integerSubsamplingConvolution(x, { weight, packed }, this.bias, offsets, options);
    return subsamplingConvolution(x, weight, this.bias, offsets, options);
  }
}
