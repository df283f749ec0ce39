/**
 * Products of a training step on the GPU and what follows them in linear layers, the optimizer, fake quantization and masks: pure
 * functions, as those of gradient_operations.ts. Frames are bfloat16, parameters and their gradients float32. Functions throw UsmLiteError
 * INVALID_ARGUMENT when shapes or types do not fit.
 */
import type { DropoutOptions } from "../ops/activation.js";
import type { RuleArguments, ScaleRule, ScaleStatistic } from "../quant/scale_rule.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

type TrainedActivation = "none" | "relu" | "silu" | "gelu";
type Finish = [bias: DeviceTensorHandle | undefined, activation: TrainedActivation, scale: number, probability: number, seed: number];
type Product = [a: DeviceTensorHandle, transposeA: boolean, b: DeviceTensorHandle, transposeB: boolean, scale: number];
type Quantized = [weight: DeviceTensorHandle, spec: string, mask: DeviceTensorHandle | undefined];
type Rounded = [...Quantized, scale: DeviceTensorHandle, zeroPoint: DeviceTensorHandle | undefined, rounding: Rounding, seed: number];

interface TrainingBindings {
  deviceTrainingProduct(...words: [...Product, float32: boolean, addend: DeviceTensorHandle | undefined, factor: number]): DeviceTensorHandle;
  deviceAddTrainingProduct(...words: [...Product, sum: DeviceTensorHandle]): void;
  deviceFinishLinear(
    sums: DeviceTensorHandle,
    ...rest: [...Finish, residual: DeviceTensorHandle | undefined, residualScale: number]
  ): DeviceTensorHandle;
  deviceLinearGradient(
    gradient: DeviceTensorHandle,
    ...rest: [...Finish, sums: DeviceTensorHandle | undefined, wantSum: boolean, wantBias: boolean]
  ): [DeviceTensorHandle | undefined, DeviceTensorHandle | undefined];
  deviceGroupScales(...words: [...Quantized, ...RuleArguments]): [scale: DeviceTensorHandle, zeroPoint?: DeviceTensorHandle];
  deviceFakeQuantize(...words: [...Rounded, type: RoundedType]): DeviceTensorHandle;
  deviceScaleAndRound(
    ...words: [...Quantized, rounding: Rounding, seed: number, type: RoundedType, ...RuleArguments]
  ): [output: DeviceTensorHandle, scale: DeviceTensorHandle, zeroPoint?: DeviceTensorHandle];
  deviceFakeQuantizeBackward(
    ...words: [
      ...Rounded,
      gradient: DeviceTensorHandle,
      clipped: boolean,
      throughMask: boolean,
      scaleDecay: number,
      wantsScale: boolean,
      throughStatistic: ScaleStatistic | undefined,
    ]
  ): [weight: DeviceTensorHandle, scale?: DeviceTensorHandle, zeroPoint?: DeviceTensorHandle];
  deviceMagnitudeMask(weight: DeviceTensorHandle, n: number, m: number): DeviceTensorHandle;
  deviceApplyMask(x: DeviceTensorHandle, mask: DeviceTensorHandle, pruned: number): DeviceTensorHandle;
  deviceCountMaskChanges(before: DeviceTensorHandle, after: DeviceTensorHandle, counts: DeviceTensorHandle): void;
}

const native = (): TrainingBindings => gpuAddon<TrainingBindings>();

/** A matrix of a product, perhaps transposed. */
export interface ProductOperand {
  readonly matrix: DeviceTensor;
  readonly transposed?: boolean;
}

const multiplied = (a: ProductOperand, b: ProductOperand, scale: number): Product => [
  a.matrix.handle,
  a.transposed ?? false,
  b.matrix.handle,
  b.transposed ?? false,
  scale,
];

/**
 * `scale * op(a)·op(b) + addend` (m, n) of matrices op(a) (m, k) and op(b) (k, n) of bfloat16; sums in float32, rounded once to `type`. By
 * cuBLASLt where it is installed, otherwise by a kernel of this package, which reads either order of an operand.
 * @param addend (m, n) of `type`, multiplied by its factor
 */
export function deviceProduct(
  a: ProductOperand,
  b: ProductOperand,
  scale = 1,
  type: "bfloat16" | "float32" = "bfloat16",
  addend?: { readonly matrix: DeviceTensor; readonly factor: number },
): DeviceTensor {
  const words = [...multiplied(a, b, scale), type === "float32", addend?.matrix.handle, addend?.factor ?? 0] as const;
  return new DeviceTensor(native().deviceTrainingProduct(...words));
}

/** `sum += scale * op(a)·op(b)` for a `sum` (m, n) of bfloat16, rounded once more, or float32. */
export function deviceAddProduct(sum: DeviceTensor, a: ProductOperand, b: ProductOperand, scale = 1): void {
  native().deviceAddTrainingProduct(...multiplied(a, b, scale), sum.handle);
}

/** What follows a product with a weight. */
export interface LinearFinish {
  /** float32 (columns) */
  readonly bias?: DeviceTensor | undefined;
  readonly activation: TrainedActivation;
  readonly scale: number;
  readonly dropout?: DropoutOptions | undefined;
}

const finishArguments = ({ bias, activation, scale, dropout }: LinearFinish): Finish => [
  bias?.handle,
  activation,
  scale,
  dropout?.probability ?? 0,
  dropout?.seed ?? 0,
];

/**
 * `residualScale * residual + scale * dropout(activation(sums + bias))`, with the mask that `linear` of the CPU has.
 * @param sums (frames, columns)
 */
export function deviceFinishLinear(sums: DeviceTensor, layer: LinearFinish, residual?: DeviceTensor, residualScale = 1): DeviceTensor {
  return new DeviceTensor(native().deviceFinishLinear(sums.handle, ...finishArguments(layer), residual?.handle, residualScale));
}

/**
 * From the gradient of {@link deviceFinishLinear}'s result: that of `sums`, and that of the bias, float32 (columns).
 * @param sums what the forward pass was given; needed with an activation only
 */
export function deviceLinearGradient(
  gradient: DeviceTensor,
  layer: LinearFinish,
  { sums, wantSum, wantBias }: { sums?: DeviceTensor | undefined; wantSum: boolean; wantBias: boolean },
): { sum: DeviceTensor | undefined; bias: DeviceTensor | undefined } {
  const [sum, bias] = native().deviceLinearGradient(gradient.handle, ...finishArguments(layer), sums?.handle, wantSum, wantBias);
  return { sum: sum && new DeviceTensor(sum), bias: bias && new DeviceTensor(bias) };
}

/** A float32 weight (out, in), what it is coded as, and the int8 mask of what is kept of it. */
export interface DeviceQuantization {
  readonly weight: DeviceTensor;
  readonly spec: string;
  readonly mask?: DeviceTensor | undefined;
}

const quantized = ({ weight, spec, mask }: DeviceQuantization): Quantized => [weight.handle, spec, mask?.handle];

/** float32 (out, scales per row); zero points where the format has them, and only there. */
export interface DeviceScales {
  readonly scale: DeviceTensor;
  readonly zeroPoint?: DeviceTensor;
}

const scalesOf = (scale: DeviceTensorHandle, zeroPoint: DeviceTensorHandle | undefined): DeviceScales => ({
  scale: new DeviceTensor(scale),
  ...(zeroPoint && { zeroPoint: new DeviceTensor(zeroPoint) }),
});

const ruleWords = ({ statistic = "format", clip = 1, powerOfTwo = false, search }: ScaleRule): RuleArguments => [
  statistic,
  clip,
  powerOfTwo,
  search?.steps ?? 0,
  search?.lowest ?? 1,
];

/** As {@link groupScales}. @throws UsmLiteError INVALID_ARGUMENT for a rule that the format does not have */
export function deviceGroupScales(quantization: DeviceQuantization, rule: ScaleRule = {}): DeviceScales {
  const [scale, zeroPoint] = native().deviceGroupScales(...quantized(quantization), ...ruleWords(rule));
  return scalesOf(scale, zeroPoint);
}

/** `threshold` and `centred` are those of the statistics of the same names; {@link FakeQuantizeOptions} explains the others. */
export type Rounding = "nearest" | "stochastic" | "noise" | "threshold" | "centred";

export interface DeviceRounding {
  /** Default `nearest`. */
  readonly rounding?: Rounding;
  /** Of `stochastic` and `noise`. */
  readonly seed?: number;
}

/** What rounded weights are written as: the levels to the bit, or rounded once more, as a product of bfloat16 takes them. */
export type RoundedType = "float32" | "bfloat16";

const rounded = (
  quantization: DeviceQuantization,
  { scale, zeroPoint }: DeviceScales,
  { rounding = "nearest", seed = 0 }: DeviceRounding,
): Rounded => [...quantized(quantization), scale.handle, zeroPoint?.handle, rounding, seed];

/** What {@link fakeQuantize} makes of the weight with these scales: to the bit, but for the rounding of `noise`. */
export function deviceFakeQuantize(
  quantization: DeviceQuantization,
  scales: DeviceScales,
  { type = "float32", ...rounding }: DeviceRounding & { readonly type?: RoundedType } = {},
): DeviceTensor {
  return new DeviceTensor(native().deviceFakeQuantize(...rounded(quantization, scales, rounding), type));
}

/** {@link deviceGroupScales} and {@link deviceFakeQuantize} with what it finds, in one launch. */
export function deviceScaleAndRound(
  quantization: DeviceQuantization,
  rule: ScaleRule,
  { rounding = "nearest", seed = 0, type = "float32" }: DeviceRounding & { readonly type?: RoundedType } = {},
): { output: DeviceTensor; scales: DeviceScales } {
  const words = [...quantized(quantization), rounding, seed, type, ...ruleWords(rule)] as const;
  const [output, scale, zeroPoint] = native().deviceScaleAndRound(...words);
  return { output: new DeviceTensor(output), scales: scalesOf(scale, zeroPoint) };
}

/** Which gradients pass; {@link FakeQuantizeOptions} explains them. */
export interface DeviceQuantizationChoices extends DeviceRounding {
  readonly clipped: boolean;
  readonly throughMask: boolean;
  /** Default 0. */
  readonly scaleDecay?: number;
  /** Whether the gradients of scales, and zero points, are wanted too. */
  readonly wantsScale: boolean;
  /** Adds to the gradient of the weight what flows through scales that {@link deviceGroupScales} found by this statistic. */
  readonly throughStatistic?: ScaleStatistic | undefined;
}

/** The gradient of the weight, and where they are wanted of scales and zero points. */
export function deviceFakeQuantizeBackward(
  quantization: DeviceQuantization,
  scales: DeviceScales,
  gradient: DeviceTensor,
  { clipped, throughMask, scaleDecay = 0, wantsScale, throughStatistic, ...rounding }: DeviceQuantizationChoices,
): Partial<DeviceScales> & { weight: DeviceTensor } {
  const [weight, scale, zeroPoint] = native().deviceFakeQuantizeBackward(
    ...rounded(quantization, scales, rounding),
    gradient.handle,
    clipped,
    throughMask,
    scaleDecay,
    wantsScale,
    throughStatistic,
  );
  return { weight: new DeviceTensor(weight), ...(scale && scalesOf(scale, zeroPoint)) };
}

/** int8 (out, in): 1 for the `n` largest |w| of every `m` adjacent inputs, as {@link magnitudeMask}. */
export function deviceMagnitudeMask(weight: DeviceTensor, n: number, m: number): DeviceTensor {
  return new DeviceTensor(native().deviceMagnitudeMask(weight.handle, n, m));
}

/** `x` where the mask is set, `pruned * x` elsewhere; float32. */
export function deviceApplyMask(x: DeviceTensor, mask: DeviceTensor, pruned: number): DeviceTensor {
  return new DeviceTensor(native().deviceApplyMask(x.handle, mask.handle, pruned));
}

/** Numbers that {@link deviceCountMaskChanges} writes. */
export const maskChangeCounts = 64;

/**
 * Counts where two masks differ, in parts.
 * @param before int8, as `after`
 * @param counts float32 (1, {@link maskChangeCounts}), overwritten; their sum is the number
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 */
export function deviceCountMaskChanges(before: DeviceTensor, after: DeviceTensor, counts: DeviceTensor): void {
  native().deviceCountMaskChanges(before.handle, after.handle, counts.handle);
}
