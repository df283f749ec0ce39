/** N:M pruning during training: masks by a schedule, weights multiplied by them. */
import { UsmLiteError } from "../errors.js";
import { fakeQuantize } from "../quant/fake_quantize.js";
import type { LayerCoding } from "../quant/layer_coding.js";
import type { Sparsity } from "../quant/weight_spec.js";
import { magnitudeMask } from "../sparse/mask.js";
import { checkMaskSchedule, isPruned, recomputesMask, type MaskSchedule } from "../sparse/schedule.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { TrainableModel } from "./trainable_model.js";
import type { TrainingModifier } from "./training_modifier.js";

/** Masks that the forward pass of a step applies, by weight name; quantization looks here which weights count. */
export type MasksInForce = Map<string, Tensor>;

export interface WeightPruningOptions {
  /** When masks are recomputed; default once, before the first step. */
  readonly schedule?: MaskSchedule;
  /** Where masks lie that are in force. Those in it at first hold until the schedule makes others. */
  readonly masks?: MasksInForce;
  /** Steps of the run, before the end of which the schedule must begin. */
  readonly totalSteps?: number;
}

interface PrunedWeight {
  readonly weight: Tensor;
  readonly sparsity: Sparsity;
  /** uint8, the weight's shape: 1 where kept; all ones before the first pruning. */
  readonly mask: Tensor;
}

/**
 * Multiplies weights by N:M masks. Pruned weights keep their value and get no gradient, so that a later mask can bring
 * them back (USM-Lite, arXiv 2312.08553).
 */
export class WeightPruning implements TrainingModifier {
  readonly masks: MasksInForce;
  private readonly weights = new Map<string, PrunedWeight>();
  private readonly schedule: MaskSchedule;

  /**
   * @param patterns sparsity of each pruned weight by parameter name
   * @throws UsmLiteError INVALID_ARGUMENT for a name that is no linear weight of the model, or an impossible schedule
   */
  constructor(model: TrainableModel, patterns: ReadonlyMap<string, Sparsity>, options: WeightPruningOptions = {}) {
    this.schedule = options.schedule ?? { kind: "one-shot", step: 0 };
    this.masks = options.masks ?? new Map<string, Tensor>();
    checkMaskSchedule(this.schedule);
    if (options.totalSteps !== undefined && !isPruned(this.schedule, options.totalSteps - 1)) {
      throw new UsmLiteError("BAD_RECIPE", `start must be below the steps of training, ${options.totalSteps}; otherwise nothing is pruned in training`);
    }
    for (const [name, sparsity] of patterns) {
      const weight = linearWeight(model, name);
      const given = this.masks.get(name);
      const mask = keep(given ? given.clone() : Tensor.from(new Uint8Array(weight.size).fill(1), weight.shape, "uint8"));
      if (given) this.masks.set(name, mask);
      this.weights.set(name, { weight, sparsity, mask });
    }
  }

  beforeStep(step: number): void {
    if (isPruned(this.schedule, step)) for (const [name, { mask }] of this.weights) this.masks.set(name, mask);
    if (!recomputesMask(this.schedule, step)) return;
    tidy(() => {
      for (const { weight, mask, sparsity } of this.weights.values()) {
        mask.write(magnitudeMask(weight, sparsity.kept, sparsity.of).toArray());
      }
    });
  }

  transformWeight(name: string, weight: Tensor): Tensor {
    const pruned = this.weights.get(name);
    const mask = this.masks.get(name);
    if (!pruned || !mask) return weight;
    return fakeQuantize(weight, `float32+${pruned.sparsity.kept}:${pruned.sparsity.of}`, { mask });
  }

  state(): ReadonlyMap<string, Tensor> {
    return new Map([...this.weights].map(([name, { mask }]) => [`mask.${name}`, mask]));
  }

  finish(): ReadonlyMap<string, LayerCoding> {
    return new Map([...this.weights].map(([name, { mask }]) => [name, { mask }]));
  }

  dispose(): void {
    for (const { mask } of this.weights.values()) mask.dispose();
  }
}

/** @throws UsmLiteError INVALID_ARGUMENT for a name that is no linear weight of the model */
export function linearWeight(model: TrainableModel, name: string): Tensor {
  const weight = model.parameters().get(name);
  const linear = model.linearWeights();
  if (weight && linear.includes(name)) return weight;
  throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" is no linear weight of the model; one is "${linear[0]}"`);
}
