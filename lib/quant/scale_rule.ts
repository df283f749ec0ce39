/** How the scales of a quantized weight are found. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceGroupScales } from "../device/training_operations.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import type { GivenScales } from "./packed_weight.js";
import { weightMatrix } from "./weight_matrix.js";

/**
 * What is measured of the kept weights of an output channel or scale group:
 * - `format`: max |w| over the highest level (`int`, `midrise`, `nf4`), mean |w| (`ternary`, `int1`), the range (`uint`);
 * - `maximum`: the same with max |w| for every format (google/praxis);
 * - `edge`: max |w| is the far edge of the interval that rounds to the highest level: int4 7.5, int2 1.5 (google/aqt);
 * - `mean`: mean |w|, for all formats but `uint`;
 * - `threshold`: `ternary` alone: weights up to 0.7 mean |w| become 0, the scale is the mean of the others (arXiv 1605.04711);
 * - `centred`: `int1` alone: weights above their mean become 1, the scale is the mean distance from it.
 */
export type ScaleStatistic = "format" | "maximum" | "edge" | "mean" | "threshold" | "centred";

/** How {@link groupScales} finds scales; docs/recipes.md says what each is for. */
export interface ScaleRule {
  /** Default `format`. */
  readonly statistic?: ScaleStatistic;
  /** Multiplies what is measured: below 1 the largest weights are clipped. Default 1. */
  readonly clip?: number;
  /** Scales become the nearest powers of two. */
  readonly powerOfTwo?: boolean;
  /** Of `steps` values of `clip`, from 1 evenly down to `lowest`, each group takes that with the least squared error. */
  readonly search?: { readonly steps: number; readonly lowest: number };
}

interface ScaleBindings {
  groupScales(
    weight: TensorHandle,
    spec: string,
    mask: TensorHandle | undefined,
    ...rule: RuleArguments
  ): { scale: TensorHandle; zeroPoint?: TensorHandle };
}

const native = addon as ScaleBindings;

export type RuleArguments = [statistic: ScaleStatistic, clip: number, powerOfTwo: boolean, searchSteps: number, searchLowest: number];

/** A rule as the addon takes it. */
export const ruleArguments = ({ statistic = "format", clip = 1, powerOfTwo = false, search }: ScaleRule): RuleArguments => [
  statistic,
  clip,
  powerOfTwo,
  search?.steps ?? 0,
  search?.lowest ?? 1,
];

/**
 * Scales, and of `uint` formats zero points, (out, scales per row), as {@link packWeight} and {@link fakeQuantize} take them.
 * @param weight float32 (out, in) or (out, in, kernel); on the GPU (out, in), and so are its scales
 * @param spec a number format with or without N:M, which counts through `mask` alone
 * @param options.mask uint8, the weight's shape: only what it keeps is measured
 * @throws UsmLiteError UNSUPPORTED_SPEC; INVALID_ARGUMENT for a rule that the format does not have
 *
 * @example
 * const scales = groupScales(weight, "int4", { rule: { search: { steps: 15, lowest: 0.3 } } });
 * packWeight(weight, "int4", undefined, scales);
 */
export function groupScales(
  weight: Tensor,
  spec: string,
  options: { mask?: Tensor | undefined; rule?: ScaleRule } = {},
): Required<Pick<GivenScales, "scale">> & GivenScales {
  if (weight instanceof DeviceTensor) {
    return deviceGroupScales({ weight, spec, mask: options.mask && onGpu(options.mask, "mask") }, options.rule);
  }
  using matrix = weightMatrix(weight);
  using maskMatrix = options.mask ? weightMatrix(options.mask) : null;
  const { scale, zeroPoint } = native.groupScales(matrix.handle, spec, maskMatrix?.handle, ...ruleArguments(options.rule ?? {}));
  return { scale: new Tensor(scale), ...(zeroPoint ? { zeroPoint: new Tensor(zeroPoint) } : {}) };
}
