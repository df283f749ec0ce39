/** Quantization-aware training: `w_eff = fakeQuantize(mask * w)` (USM-Lite, arXiv 2312.08553). */
import { copyBeside } from "../device/device_parameter.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { DeviceWeight } from "../device/device_weight.js";
import { deviceRaise } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import { deviceFillIntegerWeight } from "../device/integer_training.js";
import { UsmLiteError } from "../errors.js";
import type { IntegerWeight } from "../ops/integer_linear.js";
import type { RandomStream } from "../ops/random_stream.js";
import type { ActivationCoding } from "../quant/activation_coding.js";
import { fakeQuantize, type FakeQuantizeOptions } from "../quant/fake_quantize.js";
import type { LayerCoding } from "../quant/layer_coding.js";
import { PackedMatrix } from "../quant/packed_matrix.js";
import type { GivenScales } from "../quant/packed_weight.js";
import { groupScales, type ScaleRule } from "../quant/scale_rule.js";
import { withSparsity, type WeightSpec } from "../quant/weight_spec.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { hasZero, integerSpec } from "./integer_spec.js";
import type { ParameterSettings } from "./optimizer.js";
import type { TrainableModel } from "./trainable_model.js";
import type { TrainingModifier, WeightPurpose } from "./training_modifier.js";
import { updateAverages } from "./weight_average.js";
import { linearWeight, type MasksInForce } from "./weight_pruning.js";

/** Settings of {@link WeightQuantization}. */
export interface WeightQuantizationOptions {
  /** Masks that the weights were multiplied by, such as {@link WeightPruning.masks}. */
  readonly masks?: MasksInForce;
  /** How scales are found; default: the rule of the format. */
  readonly rule?: ScaleRule;
  /** Scales, and zero points, are trained, from what `rule` gives before the first step (LSQ, arXiv 1902.08153). */
  readonly learned?: boolean;
  /** Scales that an earlier stage left, by weight name. They stay as they are, unless they are `learned` or averaged: then they are the start. */
  readonly initial?: ReadonlyMap<string, GivenScales>;
  /** Scales are moving averages with this decay over the steps, and constants in the backward pass; 0: they are not. */
  readonly scaleAverage?: number;
  /** First step that quantizes; default 0. */
  readonly start?: number;
  /**
   * See {@link FakeQuantizeOptions}. Evaluation and packing round to the nearest level, whatever this says, and so must training whose
   * `activations` are whole numbers.
   */
  readonly rounding?: "nearest" | "stochastic" | "noise";
  readonly stopScaleGradient?: boolean;
  /** Default: with `learned` alone. */
  readonly clipGradient?: boolean;
  readonly scaleDecay?: number;
  /**
   * Layers multiply in whole numbers, on the kernels of inference, by activations coded like this: training computes to the bit what the
   * packed model will compute. One for all weights, or by weight name. Default: in floats.
   */
  readonly activations?: ActivationCoding | ReadonlyMap<string, ActivationCoding>;
}

/** Scale and zero point that outlast a step: learned, averaged or given ones. */
interface KeptScales {
  readonly scale: Tensor;
  readonly zeroPoint?: Tensor;
}

interface QuantizedWeight {
  readonly weight: Tensor;
  readonly sparse: WeightSpec;
  readonly dense: WeightSpec;
  readonly scales: KeptScales | undefined;
  /** Of this step. */
  seed: number;
  /** Scale and zero point that the last forward pass rounded with. */
  used: (Required<Pick<GivenScales, "scale">> & GivenScales) | undefined;
  /** The packed form of what it made. */
  packed: IntegerWeight | undefined;
  /** Of a weight on the GPU: what `packed` is, filled anew in each step. */
  readonly integers: DeviceWeight | undefined;
}

/** Learned scales carry this prefix before the name of their weight. */
const scalePrefix = "quantization_scale.";
/** And learned zero points this one. */
const zeroPointPrefix = "quantization_zero_point.";

/** No learned scale falls below this: a scale must be positive. */
const minimumScale = 1e-8;

/**
 * Quantizes weights in every forward pass; gradients pass straight through the rounding.
 *
 * @example
 * const specs = new Map(network.linearWeights().map((name) => [name, parseWeightSpec("int4")]));
 * const quantization = new WeightQuantization(network, specs, { masks: pruning.masks, learned: true });
 * new Trainer(network, batches, { folder, totalSteps, schedule, modifiers: [pruning, quantization] });
 */
export class WeightQuantization implements TrainingModifier {
  private readonly weights = new Map<string, QuantizedWeight>();
  private readonly masks: MasksInForce;
  private readonly rule: ScaleRule;
  private step = 0;

  /**
   * @param specs spec of each quantized weight by parameter name; its sparsity counts where a mask is in force
   * @throws UsmLiteError INVALID_ARGUMENT for a name that is no linear weight of the model, or a rule that a format does not have
   */
  constructor(
    model: TrainableModel,
    specs: ReadonlyMap<string, WeightSpec>,
    private readonly options: WeightQuantizationOptions = {},
  ) {
    this.masks = options.masks ?? new Map<string, Tensor>();
    this.rule = options.rule ?? {};
    const { learned = false, scaleAverage = 0 } = options;
    if (learned && scaleAverage > 0) throw new UsmLiteError("INVALID_ARGUMENT", "scales are either learned or averaged, not both");
    if (!(scaleAverage >= 0 && scaleAverage < 1)) {
      throw new UsmLiteError("INVALID_ARGUMENT", `the decay of averaged scales is ${scaleAverage}; it must be at least 0 and below 1`);
    }
    for (const [name, spec] of specs) {
      const weight = linearWeight(model, name);
      const activations = this.activationsOf(name) ?? "float32";
      if (activations !== "float32" && (options.rounding ?? "nearest") !== "nearest") {
        throw new UsmLiteError("INVALID_ARGUMENT", `${options.rounding} rounding gives no whole numbers for ${activations} activations`);
      }
      const dense = withSparsity(spec, undefined);
      const inIntegers = weight instanceof DeviceTensor && activations !== "float32" && dense.format !== "float32";
      // Where zero is a level, what a mask prunes is level 0.
      const filled = hasZero(dense) ? dense.text : spec.text;
      const integers = inIntegers ? DeviceWeight.ofIntegers(filled, weight.dim(0), weight.dim(1), activations) : undefined;
      const outlasting = learned || scaleAverage > 0;
      const computed = tidy(() => groupScales(outlasting ? weight : Tensor.zeros([1, 1]), spec.text, { rule: this.rule }));
      const scales = copyOf(options.initial?.get(name), weight) ?? (outlasting ? computed : undefined);
      for (const tensor of Object.values(scales ?? {})) keep(tensor);
      this.weights.set(name, { weight, sparse: spec, dense, scales, seed: 0, used: undefined, packed: undefined, integers });
    }
  }

  beforeStep(step: number, random: RandomStream): void {
    this.step = step;
    const { learned = false, scaleAverage = 0, rounding = "nearest", start = 0 } = this.options;
    for (const [name, quantized] of this.weights) {
      if (rounding !== "nearest") quantized.seed = random.nextSeed();
      const begins = step === start && !this.options.initial?.has(name);
      // Learned scales begin with what the masks of the first quantized step leave.
      if (learned && begins) this.blendScales(name, quantized, 0);
      else if (scaleAverage > 0 && step >= start) this.blendScales(name, quantized, begins ? 0 : scaleAverage);
    }
  }

  /** kept = decay * kept + (1 - decay) * what the rule gives now */
  private blendScales(name: string, { weight, dense, scales }: QuantizedWeight, decay: number): void {
    tidy(() => {
      const now = groupScales(weight, dense.text, { mask: this.masks.get(name), rule: this.rule });
      for (const part of ["scale", "zeroPoint"] as const) {
        const [kept, fresh] = [scales?.[part], now[part]];
        if (kept && fresh) updateAverages([kept], [fresh], decay);
      }
    });
  }

  transformWeight(name: string, weight: Tensor, purpose: WeightPurpose = "training"): Tensor {
    const quantized = this.weights.get(name);
    if (!quantized || this.step < (this.options.start ?? 0)) return weight;
    const { rounding = "nearest", stopScaleGradient = false, clipGradient = this.options.learned ?? false, scaleDecay = 0 } = this.options;
    return this.quantize(name, weight, {
      receiveScales: (scales) => (quantized.used = scales),
      rounding: purpose === "training" ? rounding : "nearest",
      seed: quantized.seed,
      stopScaleGradient,
      clipGradient,
      scaleDecay,
      throughMask: true, // whoever made the mask says what passes it
      scaleGradientFactor: lsqFactor(quantized),
      type: quantized.integers ? "float32" : "bfloat16", // what its layer multiplies by
    });
  }

  packedWeight(name: string, transformed: Tensor): IntegerWeight | undefined {
    const activations = this.activationsOf(name);
    const quantized = this.weights.get(name);
    if (!quantized?.used || !activations || activations === "float32" || this.step < (this.options.start ?? 0)) return undefined;
    if (quantized.integers) {
      if (!quantized.packed) {
        const { scale, zeroPoint } = quantized.used;
        deviceFillIntegerWeight(quantized.integers, onGpu(transformed, "weight"), {
          scale: onGpu(scale, "scale"),
          ...(zeroPoint && { zeroPoint: onGpu(zeroPoint, "zeroPoint") }),
        });
      }
      return (quantized.packed = quantized.integers);
    }
    const mask = this.masks.get(name);
    if (!quantized.packed) {
      const spec = integerSpec(quantized.sparse, mask);
      if (spec) quantized.packed = PackedMatrix.round(transformed, spec.text, { ...quantized.used, mask, activations });
    }
    return quantized.packed;
  }

  private activationsOf(name: string): ActivationCoding | undefined {
    const { activations } = this.options;
    return typeof activations === "object" ? activations.get(name) : activations;
  }

  private forgetPacked(): void {
    for (const quantized of this.weights.values()) {
      if (!quantized.integers) quantized.packed?.dispose();
      quantized.packed = quantized.used = undefined;
    }
  }

  private quantize(name: string, weight: Tensor, options: FakeQuantizeOptions): Tensor {
    const { sparse, dense, scales } = this.weights.get(name) as QuantizedWeight;
    const mask = this.masks.get(name);
    return fakeQuantize(weight, (mask ? sparse : dense).text, { ...options, rule: this.rule, ...scales, ...(mask ? { mask } : {}) });
  }

  afterStep(): void {
    this.forgetPacked();
    if (!this.options.learned) return;
    for (const { scales } of this.weights.values()) if (scales) keepPositive(scales.scale);
  }

  parameters(): ReadonlyMap<string, Tensor> {
    return this.options.learned ? this.keptScales() : new Map<string, Tensor>();
  }

  state(): ReadonlyMap<string, Tensor> {
    return this.options.learned ? new Map<string, Tensor>() : this.keptScales();
  }

  settingsOf(name: string): ParameterSettings | undefined {
    if (name.startsWith(zeroPointPrefix)) return { weightDecay: 0 };
    const quantized = name.startsWith(scalePrefix) ? this.weights.get(name.slice(scalePrefix.length)) : undefined;
    if (!quantized) return undefined;
    // AdamW moves every parameter by about the learning rate, whatever the size of its gradient: scales of int8 would soon be zero. So
    // the outermost level moves as far as a weight.
    return { weightDecay: 0, learningRateScale: 1 / highestLevel(quantized.dense) };
  }

  finish(): ReadonlyMap<string, LayerCoding & { readonly weight?: Tensor }> {
    const { statistic } = this.rule;
    const finished = [...this.weights].map(([name, { weight, dense, scales }]) => {
      const mask = this.masks.get(name);
      const coding = scales ?? groupScales(weight, dense.text, { mask, rule: this.rule });
      // Packing rounds to the nearest level, these two do not: what they make of the weight is handed on.
      const rounded = statistic === "threshold" || statistic === "centred";
      const activations = this.activationsOf(name);
      return [
        name,
        { ...coding, ...(activations ? { activations } : {}), ...(rounded ? { weight: this.quantize(name, weight, {}) } : {}) },
      ] as const;
    });
    return new Map(finished);
  }

  dispose(): void {
    this.forgetPacked();
    for (const { integers } of this.weights.values()) integers?.dispose();
    for (const tensor of this.keptScales().values()) tensor.dispose();
  }

  private keptScales(): Map<string, Tensor> {
    const entries = [...this.weights].flatMap(([name, { scales }]): [string, Tensor][] => [
      ...(scales ? [[`${scalePrefix}${name}`, scales.scale] as [string, Tensor]] : []),
      ...(scales?.zeroPoint ? [[`${zeroPointPrefix}${name}`, scales.zeroPoint] as [string, Tensor]] : []),
    ]);
    return new Map(entries);
  }
}

function copyOf(given: GivenScales | undefined, weight: Tensor): KeptScales | undefined {
  if (!given?.scale) return undefined;
  return { scale: copyBeside(weight, given.scale), ...(given.zeroPoint ? { zeroPoint: copyBeside(weight, given.zeroPoint) } : {}) };
}

function keepPositive(scale: Tensor): void {
  if (scale instanceof DeviceTensor) deviceRaise(scale, minimumScale);
  else scale.write(scale.toArray().map((value) => Math.max(value, minimumScale)));
}

/** 1 / sqrt(weights per scale * highest level), which makes the steps of scales fit those of weights. */
function lsqFactor({ weight, scales, dense }: QuantizedWeight): number {
  return scales ? 1 / Math.sqrt((weight.size / scales.scale.size) * highestLevel(dense)) : 1;
}

/** What the outermost weights are divided by their scale. */
function highestLevel({ format, bits }: WeightSpec): number {
  if (format === "ternary") return 1;
  if (format === "nf4") return 127;
  return format.startsWith("int") && bits > 1 ? 2 ** (bits - 1) - 1 : 2 ** bits - 1;
}
