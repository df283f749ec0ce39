/**
 * One run, many sizes: compressed versions of a model trained together on shared weights (one-pass all-in-one compression, Li et al.,
 * Interspeech 2024, arXiv 2406.10160; the sandwich of slimmable networks, Yu and Huang, ICCV 2019).
 */
import { overwrite } from "../device/device_parameter.js";
import { UsmLiteError } from "../errors.js";
import { scaledSum } from "../ops/elementwise.js";
import type { RandomStream } from "../ops/random_stream.js";
import type { LayerCoding } from "../quant/layer_coding.js";
import type { ScaleRule } from "../quant/scale_rule.js";
import type { WeightSpec } from "../quant/weight_spec.js";
import type { MaskSchedule } from "../sparse/schedule.js";
import { keep } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { distanceFrom } from "./distillation.js";
import { StepValue } from "./step_value.js";
import type { BatchLoss, ForwardOutputs, TrainableModel, TrainingBatch, TrainingContext } from "./trainable_model.js";
import type { ModelVariant, TrainingModifier } from "./training_modifier.js";
import { WeightPruning, type MasksInForce } from "./weight_pruning.js";
import { WeightQuantization } from "./weight_quantization.js";

/** One of the sizes. */
export interface Size {
  /** Name of its folder. */
  readonly name: string;
  /** Of every weight of the modifier. */
  readonly spec: WeightSpec;
  /** How scales are found; default: the rule of the format. */
  readonly rule?: ScaleRule;
}

/** Settings of {@link ManySizes}. */
export interface ManySizesOptions {
  /** Sizes trained in each step: the largest, the smallest, and others drawn anew. At least 1; 1 draws among all. */
  readonly perStep: number;
  /** Weight of the divergence of each size from the largest in the step, which is not taught itself. */
  readonly distillation: number;
  readonly masks: MaskSchedule;
  readonly stopScaleGradient: boolean;
  readonly blankId: number;
  readonly totalSteps: number;
}

interface Variant extends Size {
  readonly pruning: WeightPruning | undefined;
  readonly quantization: WeightQuantization;
  /** Running statistics under this size (switchable normalization, Yu et al., ICLR 2019). */
  readonly buffers: ReadonlyMap<string, Tensor>;
}

/**
 * Trains several sizes of a model at once; they share all parameters, and each has masks and running statistics of its own.
 *
 * @example
 * const sizes = ["int8", "int4", "int2"].map((name) => ({ name, spec: parseWeightSpec(name) }));
 * const modifier = new ManySizes(network, sizes, network.blockWeights(), options);
 * await new Trainer(network, batches, { ...run, modifiers: [modifier] }).run();
 */
export class ManySizes implements TrainingModifier {
  private readonly sizes: readonly Variant[];
  private readonly losses = new Map<string, StepValue>();
  /** Running statistics of the sizes that are trained in a step, as they were before it. */
  private statistics: readonly (readonly [statistic: Tensor, before: Tensor])[] = [];
  private chosen: readonly Variant[] = [];

  /**
   * @param sizes from the largest to the smallest; at least two, of different names
   * @param layers names of the weights that they code
   * @throws UsmLiteError INVALID_ARGUMENT for a name that is no linear weight, BAD_RECIPE for a schedule that begins too late
   */
  constructor(
    private readonly model: TrainableModel,
    sizes: readonly Size[],
    private readonly layers: readonly string[],
    private readonly options: ManySizesOptions,
  ) {
    if (sizes.length < 2 || new Set(sizes.map(({ name }) => name)).size < sizes.length) {
      throw new UsmLiteError("INVALID_ARGUMENT", "there must be at least two sizes, each with a name of its own");
    }
    this.sizes = sizes.map(({ name, spec, rule = {} }) => {
      const masks: MasksInForce = new Map();
      const { sparsity } = spec;
      const { totalSteps, masks: schedule, stopScaleGradient } = options;
      return {
        name,
        spec,
        pruning: sparsity && new WeightPruning(model, new Map(layers.map((layer) => [layer, sparsity])), { schedule, masks, totalSteps }),
        quantization: new WeightQuantization(model, new Map(layers.map((layer) => [layer, spec])), { masks, rule, stopScaleGradient }),
        buffers: new Map([...model.buffers()].map(([buffer, tensor]) => [buffer, keep(tensor.clone())])),
      };
    });
  }

  beforeStep(step: number, random: RandomStream): void {
    for (const { pruning, quantization } of this.sizes) {
      pruning?.beforeStep(step);
      quantization.beforeStep(step, random);
    }
    this.chosen = this.draw(random);
    this.statistics = this.chosen.flatMap(({ buffers }) => [...buffers.values()].map((own) => [own, keep(own.clone())] as const));
  }

  /** Scales are measured over what the masks of the last step keep, also where a run that was at its end only exports anew. */
  restored(step: number): void {
    for (const { pruning } of this.sizes) pruning?.restored(step);
  }

  afterStep(_step: number, skipped: boolean): void {
    for (const [statistic, before] of this.statistics) {
      if (skipped) overwrite(statistic, before);
      before.dispose();
    }
    this.statistics = [];
  }

  loss(_batch: TrainingBatch, context: TrainingContext, next: (context: TrainingContext) => BatchLoss): BatchLoss {
    let total: Tensor | undefined;
    let first: BatchLoss | undefined;
    for (const size of this.chosen) {
      const lattice = this.options.distillation > 0 ? first?.outputs?.lattice : undefined;
      const taught = { ...(first ? {} : { keepLattice: this.options.distillation > 0 }), ...(lattice ? { teacherLattice: lattice } : {}) };
      const result = this.under(size, () =>
        next({
          ...context,
          ...taught,
          transformWeight: (name, weight) => transformed(size, name, context.transformWeight?.(name, weight) ?? weight),
        }),
      );
      const loss = first ? this.taught(first.outputs, result) : result.loss;
      this.lossOf(size).set(result.loss);
      first ??= result;
      total = total ? scaledSum(total, 1, loss, 1 / this.chosen.length) : scaledSum(loss, 1 / this.chosen.length, loss, 0);
    }
    if (!first || !total) throw new UsmLiteError("INTERNAL", "no size was drawn for this step");
    return { ...first, loss: total };
  }

  state(): ReadonlyMap<string, Tensor> {
    return new Map(
      this.sizes.flatMap(({ name, pruning, buffers }): [string, Tensor][] => [
        ...[...(pruning?.state() ?? [])].map(([key, tensor]): [string, Tensor] => [`many-sizes.${name}.${key}`, tensor]),
        ...[...buffers].map(([key, tensor]): [string, Tensor] => [`many-sizes.${name}.${key}`, tensor]),
      ]),
    );
  }

  /** The loss of each size when it was last trained. */
  metrics(): Readonly<Record<string, number>> {
    return Object.fromEntries([...this.losses].map(([name, loss]) => [`loss.${name}`, loss.read()]));
  }

  variants(): readonly ModelVariant[] {
    return this.sizes.map(({ name, spec, pruning, quantization, buffers }) => {
      const masks: ReadonlyMap<string, LayerCoding> = pruning?.finish() ?? new Map();
      const codings = quantization.finish();
      return { name, buffers, layers: new Map(this.layers.map((layer) => [layer, { spec, ...masks.get(layer), ...codings.get(layer) }])) };
    });
  }

  dispose(): void {
    for (const loss of this.losses.values()) loss.dispose();
    for (const { pruning, buffers } of this.sizes) {
      pruning?.dispose();
      for (const buffer of buffers.values()) buffer.dispose();
    }
  }

  private draw(random: RandomStream): readonly Variant[] {
    const { perStep } = this.options;
    if (perStep >= this.sizes.length) return this.sizes;
    const largest = this.sizes[0] as Variant;
    if (perStep === 1) return [this.sizes[random.integer(this.sizes.length)] as Variant];
    const between = this.sizes.slice(1, -1);
    while (between.length > perStep - 2) between.splice(random.integer(between.length), 1);
    return [largest, ...between, this.sizes.at(-1) as Variant];
  }

  private lossOf({ name }: Variant): StepValue {
    const loss = this.losses.get(name) ?? new StepValue();
    this.losses.set(name, loss);
    return loss;
  }

  /** Runs `body` with the running statistics of a size in the model. */
  private under(size: Variant, body: () => BatchLoss): BatchLoss {
    const buffers = [...this.model.buffers()].map(([name, tensor]) => [tensor, size.buffers.get(name) as Tensor] as const);
    for (const [tensor, own] of buffers) overwrite(tensor, own);
    const result = body();
    for (const [tensor, own] of buffers) overwrite(own, tensor);
    return result;
  }

  /** The loss of a size with what it has to learn from the largest, whose outputs are constants to it. */
  private taught(largest: ForwardOutputs | undefined, { loss, outputs }: BatchLoss): Tensor {
    const { distillation, blankId } = this.options;
    if (distillation === 0 || !largest || !outputs) return loss;
    const terms = { logits: distillation, temperature: 1, frames: "weighted", hidden: 0 } as const;
    const distance = distanceFrom(largest, outputs, terms, blankId);
    return distance ? scaledSum(loss, 1, distance, 1) : loss;
  }
}

function transformed({ pruning, quantization }: Variant, name: string, weight: Tensor): Tensor {
  return quantization.transformWeight(name, pruning?.transformWeight(name, weight) ?? weight);
}
