/**
 * Linear layers of training on the kernels of inference: whole numbers forward, gradients through the dequantized values ("native"
 * quantization-aware training, arXiv 2203.15952). What training computes is, to the bit, what the packed model will compute.
 */
import { DeviceTensor } from "../device/device_tensor.js";
import { DeviceWeight } from "../device/device_weight.js";
import { UsmLiteError } from "../errors.js";
import { roundRows, type ActivationCoding } from "../quant/activation_coding.js";
import type { PackedMatrix } from "../quant/packed_matrix.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { dropout as applyDropout } from "./activation.js";
import { integerLinearOnGpu } from "./device_integer_linear.js";
import { scaledSum } from "./elementwise.js";
import { accumulateResidual } from "./gradients.js";
import { withoutGelu, type LinearOptions } from "./linear.js";
import { accumulateLinear } from "./linear_gradient.js";
import { packedLinear } from "./packed_linear.js";
import {
  packedSubsamplingConvolution,
  subsamplingConvolution,
  windowsOf,
  type SubsamplingConvolutionOptions,
} from "./subsampling_convolution.js";
import { activeTape, isRecording, recordStep } from "./tape.js";

/** Whole numbers that a layer multiplies by, where its activations are. */
export type IntegerWeight = PackedMatrix | DeviceWeight;

/** A weight in both forms, of the same values. */
export interface IntegerOperand {
  /** (out, in), on the tape. */
  readonly weight: Tensor;
  /** Lives until the backward pass. Its `activations` say what it is multiplied by. */
  readonly packed: IntegerWeight;
}

/**
 * {@link packedLinear}, differentiable: the weight gets the gradient of a product with the rounded activations, `x` that of one with
 * the dequantized weight, as if it had not been rounded.
 *
 * @param x (frames, in)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit, or some operands are on the GPU and some are not
 *
 * @example
 * const scales = groupScales(weight, "int4");
 * const rounded = fakeQuantize(weight, "int4");
 * const packed = PackedMatrix.round(rounded, "int4", { ...scales, activations: "int8" });
 * const y = integerLinear(x, { weight: rounded, packed }, { bias });
 */
export function integerLinear(x: Tensor, operand: IntegerOperand, options: LinearOptions = {}): Tensor {
  const { dropout, scale = 1, residual, residualScale = 1, ...inner } = options;
  if (!dropout || dropout.probability === 0) return product(x, operand, options);
  const dropped = applyDropout(product(x, operand, inner), dropout);
  if (!residual) return scale === 1 ? dropped : scaledSum(dropped, scale, dropped, 0);
  return scaledSum(residual, residualScale, dropped, scale);
}

function product(x: Tensor, { weight, packed }: IntegerOperand, options: LinearOptions): Tensor {
  if (x instanceof DeviceTensor) return integerLinearOnGpu(x, weight, placed(packed), options);
  const { bias, scale = 1, residual, residualScale = 1 } = options;
  const activation = withoutGelu(options.activation ?? "none");
  const integers = onCpu(packed);
  const { activations } = integers;
  const output = packedLinear(x, integers, { bias, activation, scale, residual, residualScale, activations });
  if (!isRecording([x, weight, bias, residual])) return output;
  return recordStep(output, [x, weight, bias, residual], (gradient, tape) => {
    const preActivation = activation === "none" ? undefined : packedLinear(x, integers, { bias, activations });
    const operands = { x, multiplied: seen(x, activations), weight, bias };
    accumulateLinear(tape, gradient, operands, { activation, preActivation, scale, dropout: undefined });
    accumulateResidual(tape, gradient, residual, residualScale);
  });
}

function placed(weight: IntegerWeight): DeviceWeight {
  if (weight instanceof DeviceWeight) return weight;
  throw new UsmLiteError("INVALID_ARGUMENT", "integerLinear: the whole numbers are on the CPU but x is on the GPU");
}

function onCpu(weight: IntegerWeight): PackedMatrix {
  if (!(weight instanceof DeviceWeight)) return weight;
  throw new UsmLiteError("INVALID_ARGUMENT", "integerLinear: the whole numbers are on the GPU but x is on the CPU");
}

const seen = (x: Tensor, activations: ActivationCoding): Tensor => (activations === "float32" ? x : roundRows(x, activations));

/**
 * The same of a strided convolution, whose windows of frames are rounded to eight bits. On the CPU its weight gets the gradient of a product
 * with activations that are not rounded: each frame is rounded differently in every window.
 */
export function integerSubsamplingConvolution(
  x: Tensor,
  { weight, packed }: IntegerOperand,
  bias: Tensor | undefined,
  offsets: SequenceOffsets,
  options: SubsamplingConvolutionOptions,
): { output: Tensor; offsets: SequenceOffsets } {
  if (x instanceof DeviceTensor) {
    const { windows, offsets: outputOffsets } = windowsOf(x, weight, offsets, options.stride);
    const output = integerLinear(windows, { weight, packed }, { bias, activation: options.activation ?? "none" });
    if (!activeTape()) windows.dispose(); // they are large
    return { output, offsets: outputOffsets };
  }
  const result = subsamplingConvolution(x, weight, bias, offsets, options);
  using integers = packedSubsamplingConvolution(x, packed, bias, offsets, options).output;
  result.output.write(integers.toArray());
  return result;
}
