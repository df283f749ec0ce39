/** Quantization-aware training: the weights as they will be after packing, differentiable. */
import { DeviceTensor } from "../device/device_tensor.js";
import type { Rounding } from "../device/training_operations.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { recordStep, type Tape } from "../ops/tape.js";
import { magnitudeMask } from "../sparse/mask.js";
import { prune } from "../sparse/prune.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { fakeQuantizeOnGpu } from "./device_fake_quantize.js";
import type { GivenScales } from "./packed_weight.js";
import { groupScales, ruleArguments, type RuleArguments, type ScaleRule } from "./scale_rule.js";
import { weightMatrix, weightOfMatrix } from "./weight_matrix.js";
import { parseWeightSpec } from "./weight_spec.js";

type Quantization = [
  weight: TensorHandle,
  spec: string,
  mask: TensorHandle | undefined,
  scale: TensorHandle,
  zeroPoint: TensorHandle | undefined,
  rounding: Rounding,
  seed: number,
];

interface FakeQuantizeBindings {
  fakeQuantize(...quantization: Quantization): TensorHandle;
  fakeQuantizeBackward(...parameters: [...Quantization, outputGradient: TensorHandle, clipped: boolean, throughMask: boolean]): {
    weight: TensorHandle;
    scale: TensorHandle;
    zeroPoint?: TensorHandle;
  };
  addScaleGradients(
    weight: TensorHandle,
    spec: string,
    mask: TensorHandle | undefined,
    ...parameters: [
      ...RuleArguments,
      scale: TensorHandle,
      scaleGradient: TensorHandle,
      zeroPointGradient: TensorHandle | undefined,
      weightGradient: TensorHandle,
    ]
  ): void;
}

const native = addon as FakeQuantizeBindings;

/** Mask, scales and gradient of {@link fakeQuantize}. */
export interface FakeQuantizeOptions extends GivenScales {
  /**
   * uint8, the weight's shape: 0 prunes. Absent: a sparse spec prunes to {@link magnitudeMask} of the current weights,
   * a dense one prunes nothing. The caller keeps it alive until the backward pass.
   */
  mask?: Tensor | undefined;
  /** How scales are found; with {@link GivenScales} it only says how weights are rounded. */
  rule?: ScaleRule;
  /** Treat the scale as a constant, so that the largest weight of a channel gets no gradient through it. */
  stopScaleGradient?: boolean;
  /**
   * `nearest` (the default), which is what packing does; `stochastic`: up or down, right on average; `noise`: not rounded, but
   * uniform noise as wide as the distance of two levels is added (pseudo-quantization noise).
   */
  rounding?: "nearest" | "stochastic" | "noise";
  /** Of `stochastic` and `noise`. */
  seed?: number;
  /** Weights beyond the outermost levels get no gradient. */
  clipGradient?: boolean;
  /** Pruned weights get the gradient that they would get if they were kept. */
  throughMask?: boolean;
  /** Multiplies the gradient of a given scale: 1 / sqrt(weights per scale * highest level) in LSQ. Default 1. */
  scaleGradientFactor?: number;
  /** Added to the gradient of every scale: the derivative of a penalty on them. Default 0. */
  scaleDecay?: number;
  /**
   * Of a weight on the GPU. `bfloat16`: the result is rounded once more, to what a product of floats makes of it anyway, which saves it the
   * conversion. Whole numbers and whatever else needs the levels to the bit take `float32`, the default.
   */
  type?: "float32" | "bfloat16";
  /** Told the scales, and zero points, that weights were rounded with. They belong to the scope of the caller. */
  receiveScales?: (scales: GivenScales & { readonly scale: Tensor }) => void;
}

/**
 * What {@link packWeight} and {@link unpackWeight} would make of `weight`, to the bit, with straight-through gradients:
 * rounding counts as the identity, pruned weights get none, and the scale is differentiated unless `stopScaleGradient`:
 * it gets `sum(g * (level - zeroPoint - w / scale))`, and the weights that it was computed from get that times the
 * derivative of the scale. `int`, `midrise`, `nf4`: `sign(w) / largest level` for the largest |w| of each channel (or
 * group); `ternary`, `int1`: `sign(w) / count` for every one; `uint`: `1 / largest level` for the largest w and the
 * negative for the least. Prune, then quantize: USM-Lite (arXiv 2312.08553) with the quantizer of google/praxis.
 *
 * A scale that is given and requires a gradient is learned (LSQ, arXiv 1902.08153; with a zero point LSQ+, 2004.09576).
 *
 * @param weight float32 (out, in) or (out, in, kernel), of which {@link weightMatrix} is quantized
 * @param weight on the GPU: float32 (out, in), and so are mask (int8) and scales. Scales that are means may differ from the CPU's in the last
 * bit, whose sums are in another order
 * @returns float32 unless `type` says otherwise, the weight's shape; for plain `float32` without a mask the weight itself
 * @throws UsmLiteError UNSUPPORTED_SPEC; INVALID_ARGUMENT for a mask or scales of another shape, or a rule that the format
 * does not have
 *
 * @example
 * const rounded = fakeQuantize(weight, "int4"); // float32 on the levels of int4; gradients pass to weight
 */
export function fakeQuantize(weight: Tensor, spec: string, options: FakeQuantizeOptions = {}): Tensor {
  const { text, bits, sparsity } = parseWeightSpec(spec);
  const mask = options.mask ?? (sparsity && magnitudeMask(weight, sparsity.kept, sparsity.of));
  if (bits === 32) {
    if (!mask) return weight;
    if (!(weight instanceof DeviceTensor)) checkMask(weight, mask);
    return prune(weight, mask, { straightThrough: options.throughMask ?? false });
  }
  if (weight instanceof DeviceTensor) return fakeQuantizeOnGpu(weight, text, mask, { ...options, rounding: roundingOf(options) });
  const { rule = {}, seed = 0 } = options;
  const given = options.scale !== undefined;
  const scales: GivenScales & { scale: Tensor } = given
    ? (options as GivenScales & { scale: Tensor })
    : groupScales(weight, text, { mask, rule });
  options.receiveScales?.(scales);
  const quantization = (matrix: Tensor, maskMatrix: Tensor | null): Quantization => [
    matrix.handle,
    text,
    maskMatrix?.handle,
    scales.scale.handle,
    scales.zeroPoint?.handle,
    roundingOf(options),
    seed,
  ];
  using matrix = weightMatrix(weight);
  using maskMatrix = mask ? weightMatrix(mask) : null;
  using quantized = new Tensor(native.fakeQuantize(...quantization(matrix, maskMatrix)));
  const output = weightOfMatrix(quantized, weight.shape);
  return recordStep(output, [weight, options.scale, options.zeroPoint], (gradient, tape) => {
    using weights = weightMatrix(weight);
    using masks = mask ? weightMatrix(mask) : null;
    using upstream = weightMatrix(gradient);
    const { clipGradient = false, throughMask = false, stopScaleGradient = false } = options;
    const parts = native.fakeQuantizeBackward(...quantization(weights, masks), upstream.handle, clipGradient, throughMask);
    using weightGradient = new Tensor(parts.weight);
    const scaleGradient = new Tensor(parts.scale);
    const zeroPointGradient = parts.zeroPoint && new Tensor(parts.zeroPoint);
    const { scaleDecay = 0 } = options;
    if (scaleDecay !== 0) scaleGradient.write(scaleGradient.toArray().map((value) => value + scaleDecay));
    if (given) {
      learn(tape, options.scale, scaleGradient, options.scaleGradientFactor);
      learn(tape, options.zeroPoint, zeroPointGradient, options.scaleGradientFactor);
    } else if (!stopScaleGradient) {
      native.addScaleGradients(
        weights.handle,
        text,
        masks?.handle,
        ...ruleArguments(rule),
        scales.scale.handle,
        scaleGradient.handle,
        zeroPointGradient?.handle,
        weightGradient.handle,
      );
    }
    tape.accumulate(weight, weightOfMatrix(weightGradient, weight.shape));
  });
}

function roundingOf({ rounding = "nearest", rule }: FakeQuantizeOptions): Rounding {
  const { statistic } = rule ?? {};
  if (statistic !== "threshold" && statistic !== "centred") return rounding;
  if (rounding === "nearest") return statistic;
  throw new UsmLiteError(
    "INVALID_ARGUMENT",
    `fakeQuantize: with the scale "${statistic}" weights are rounded to the nearest side of its threshold, not "${rounding}"`,
  );
}

function learn(tape: Tape, parameter: Tensor | undefined, gradient: Tensor | undefined, factor = 1): void {
  if (!parameter?.requiresGrad || !gradient) return;
  if (factor !== 1) gradient.write(gradient.toArray().map((value) => factor * value));
  tape.accumulate(parameter, gradient);
}

function checkMask(weight: Tensor, mask: Tensor): void {
  if (mask.dtype === "uint8" && mask.shape.join() === weight.shape.join()) return;
  throw new UsmLiteError(
    "INVALID_ARGUMENT",
    `fakeQuantize: the mask is ${mask.dtype} (${mask.shape.join(", ")}); it must be uint8 (${weight.shape.join(", ")})`,
  );
}
