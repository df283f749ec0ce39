/** Pruning during training: masks by a schedule, weights multiplied by them. */
import { copyBeside, DeviceParameter, overwrite, storedForm, storedShapeOf } from "../device/device_parameter.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { UsmLiteError } from "../errors.js";
import type { LayerCoding } from "../quant/layer_coding.js";
import { weightMatrixShape } from "../quant/weight_matrix.js";
import type { Sparsity } from "../quant/weight_spec.js";
import { ActivationNorms } from "../sparse/activation_norms.js";
import { magnitudeMask, unstructuredMask } from "../sparse/mask.js";
import { applyMask, prune } from "../sparse/prune.js";
import { checkMaskSchedule, gradualShare, isPruned, maskFrozenFrom, recomputesMask, type MaskSchedule } from "../sparse/schedule.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { firstScore, positive, selectByScore } from "./learned_scores.js";
import { MaskChanges } from "./mask_changes.js";
import type { ParameterSettings } from "./optimizer.js";
import type { BatchLoss, TrainableModel, TrainingBatch, TrainingContext } from "./trainable_model.js";
import type { TrainingModifier } from "./training_modifier.js";

/** Masks that the forward pass of a step applies, by weight name; quantization looks here which weights count. */
export type MasksInForce = Map<string, Tensor>;

/** N:M, or a share of all weights of a layer, wherever they are. */
export type PruningPattern = Sparsity | { readonly share: number };

/** Settings of {@link WeightPruning}. */
export interface WeightPruningOptions {
  /** When masks are recomputed; default once, before the first step. */
  readonly schedule?: MaskSchedule;
  /** Where masks lie that are in force. Those in it at first hold until the schedule makes others. */
  readonly masks?: MasksInForce;
  /** Steps of the run, before the end of which the schedule must begin and gradual pruning end. */
  readonly totalSteps?: number;
  /**
   * Which weights are kept: those with the largest |w| (the default), the largest |w| times the norm of their input (`wanda`, observed
   * in the {@link observedSteps} steps before each mask, or the latest before these in which layer drop had left the layer in), or the largest score, which is trained like a weight (`learned`).
   */
  readonly score?: "magnitude" | "wanda" | "learned";
  /** A few-shot schedule prunes more from shot to shot, the full pattern at the last. */
  readonly gradual?: boolean;
  /** Pruned weights get the gradients that they would get if they were kept (straight-through estimator). */
  readonly straightThrough?: boolean;
  /** With it, pruned weights are also drawn towards zero by so many times themselves (SR-STE, arXiv 2102.04010: 2e-4). */
  readonly decay?: number;
  /** Steps over which pruned weights fade to zero from the first mask on (decaying masks, arXiv 2209.07617). Default 0: at once. */
  readonly fadeSteps?: number;
}

interface PrunedWeight {
  readonly weight: Tensor;
  readonly pattern: PruningPattern;
  /** uint8, on the GPU int8, the weight's shape: 1 where kept; all ones before the first pruning. */
  readonly mask: Tensor;
  /** Of `learned`, the weight's shape. */
  readonly score: Tensor | undefined;
}

/** Steps before a mask in which the inputs of layers are observed for `wanda`, and how many of those that gave a layer any are kept. */
const observedSteps = 8;

/** Learned scores carry this prefix before the name of their weight. */
const scorePrefix = "sparsity_score.";

/**
 * Multiplies weights by masks. Pruned weights keep their value, so that a later mask can bring them back, and get no gradient
 * (USM-Lite, arXiv 2312.08553) unless the options say otherwise.
 *
 * @example
 * const patterns = new Map(network.linearWeights().map((name) => [name, { kept: 2, of: 4 }]));
 * const schedule = { kind: "few-shot", start: 0, shots: 2, interval: 100 } as const;
 * const pruning = new WeightPruning(network, patterns, { schedule, gradual: true }); // 3:4, after 100 steps 2:4
 */
export class WeightPruning implements TrainingModifier {
  readonly masks: MasksInForce;
  private readonly weights = new Map<string, PrunedWeight>();
  private readonly schedule: MaskSchedule;
  private readonly norms: ActivationNorms | undefined;
  private step = 0;
  private changes: MaskChanges | undefined;

  /**
   * @param patterns sparsity of each pruned weight by parameter name
   * @throws UsmLiteError INVALID_ARGUMENT for a name that is no linear weight of the model, or an impossible schedule
   */
  constructor(
    model: TrainableModel,
    patterns: ReadonlyMap<string, PruningPattern>,
    private readonly options: WeightPruningOptions = {},
  ) {
    this.schedule = options.schedule ?? { kind: "one-shot", step: 0 };
    this.masks = options.masks ?? new Map<string, Tensor>();
    checkMaskSchedule(this.schedule);
    checkSteps(this.schedule, options);
    for (const [name, pattern] of patterns) {
      const weight = linearWeight(model, name);
      if (
        options.score === "wanda" &&
        storedShapeOf(weight)
          .slice(2)
          .some((taps) => taps > 1)
      ) {
        throw new UsmLiteError("BAD_RECIPE", `wanda looks at the inputs of linear layers; "${name}" is a convolution`);
      }
      const given = this.masks.get(name);
      const mask = tidy(() =>
        keep(copyBeside(weight, given ?? Tensor.from(new Uint8Array(weight.size).fill(1), storedShapeOf(weight), "uint8"))),
      );
      if (given) this.masks.set(name, mask);
      const score = options.score === "learned" ? tidy(() => keep(firstScore(weight))) : undefined;
      this.weights.set(name, { weight, pattern, mask, score });
    }
    if (options.score === "wanda") {
      const inputs = new Map([...this.weights].map(([name, { weight }]) => [name, weightMatrixShape(weight.shape)[1]]));
      this.norms = new ActivationNorms(inputs, observedSteps);
    }
  }

  beforeStep(step: number): void {
    this.forgetChanges();
    this.norms?.nextStep();
    if (recomputesMask(this.schedule, step)) tidy(() => this.renewMasks(step));
    this.enforce(step);
  }

  private forgetChanges(): void {
    this.changes?.dispose();
    this.changes = undefined;
  }

  restored(step: number): void {
    if (step > 0) this.enforce(step - 1);
  }

  /** Puts the masks of a step in force. */
  private enforce(step: number): void {
    this.step = step;
    if (!isPruned(this.schedule, step)) return;
    for (const [name, { mask }] of this.weights) {
      if (this.remainder === 0) this.masks.set(name, mask);
      else this.masks.delete(name);
    }
  }

  private renewMasks(step: number): void {
    const share = this.options.gradual ? gradualShare(this.schedule, step) : 1;
    const changes = new MaskChanges(this.weights.size);
    for (const [name, { weight, pattern, mask, score }] of this.weights) {
      const before = mask.clone();
      // Scores within N:M are compared where the weight is, all else on the CPU.
      const measured = score ? positive(score) : weight;
      const placed = this.norms || "share" in pattern ? storedForm(measured) : measured;
      // Magnitude decides where layer drop left a layer out of all steps before its first mask.
      const scores = this.norms?.heard(name) ? this.norms.score(name, placed) : placed;
      replaceMask(mask, maskOf(scores, pattern, share));
      changes.add(before, mask);
    }
    this.changes = changes;
  }

  /** What is left of pruned weights in this step; nothing of those that an earlier stage pruned, until masks are made. */
  private get remainder(): number {
    const { fadeSteps = 0 } = this.options;
    const done = this.step - startOf(this.schedule) + 1;
    return fadeSteps === 0 || done <= 0 ? 0 : Math.max(0, 1 - done / fadeSteps);
  }

  loss(_batch: TrainingBatch, context: TrainingContext, next: (context: TrainingContext) => BatchLoss): BatchLoss {
    const { norms } = this;
    if (!norms || !this.precedesMask()) return next(context);
    return next({
      ...context,
      observeInput: (name, x) => {
        norms.observe(name, x);
        context.observeInput?.(name, x);
      },
    });
  }

  private precedesMask(): boolean {
    return Array.from({ length: observedSteps }, (_, ahead) => this.step + 1 + ahead).some((step) => recomputesMask(this.schedule, step));
  }

  transformWeight(name: string, weight: Tensor): Tensor {
    const pruned = this.weights.get(name);
    if (!pruned || (!this.masks.has(name) && !isPruned(this.schedule, this.step))) return weight;
    const { mask, score } = pruned;
    if (score) return selectByScore(weight, mask, score);
    const { straightThrough = false, decay = 0 } = this.options;
    return prune(weight, mask, { remainder: this.remainder, straightThrough, decay });
  }

  parameters(): ReadonlyMap<string, Tensor> {
    return new Map([...this.weights].flatMap(([name, { score }]): [string, Tensor][] => (score ? [[`${scorePrefix}${name}`, score]] : [])));
  }

  settingsOf(name: string): ParameterSettings | undefined {
    return name.startsWith(scorePrefix) ? { weightDecay: 0 } : undefined;
  }

  state(): ReadonlyMap<string, Tensor> {
    const norms = [...(this.norms?.state() ?? [])].map(([name, sum]): [string, Tensor] => [`input_norm.${name}`, sum]);
    return new Map([...[...this.weights].map(([name, { mask }]): [string, Tensor] => [`mask.${name}`, mask]), ...norms]);
  }

  /** `maskChanges`: the share of weights that the masks of this step keep or prune unlike those before. */
  metrics(): Readonly<Record<string, number>> {
    return this.changes ? { maskChanges: this.changes.share() } : {};
  }

  finish(): ReadonlyMap<string, LayerCoding & { readonly weight?: Tensor }> {
    return new Map(
      [...this.weights].map(([name, { weight, pattern, mask }]) => [
        name,
        "share" in pattern ? { weight: applyMask(weight, mask) } : { mask },
      ]),
    );
  }

  dispose(): void {
    this.forgetChanges();
    this.norms?.dispose();
    for (const { mask, score } of this.weights.values()) {
      mask.dispose();
      score?.dispose();
    }
  }
}

/** @throws UsmLiteError INVALID_ARGUMENT for a name that is no linear weight of the model */
export function linearWeight(model: TrainableModel, name: string): Tensor {
  const weight = model.parameters().get(name);
  const linear = model.linearWeights();
  if (weight && linear.includes(name)) return weight;
  throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" is no linear weight of the model; one is "${linear[0]}"`);
}

/** @param share how much of the pattern counts: of 2:4, 0.5 keeps three of four */
function maskOf(scores: Tensor, pattern: PruningPattern, share: number): Tensor {
  if ("share" in pattern) return unstructuredMask(scores, pattern.share * share);
  const { kept, of } = pattern;
  const now = Math.round(of - (of - kept) * share);
  return now < of ? magnitudeMask(scores, now, of) : Tensor.from(new Uint8Array(scores.size).fill(1), scores.shape, "uint8");
}

/** @param fresh where the mask is, or on the CPU */
function replaceMask(mask: Tensor, fresh: Tensor): void {
  if (mask instanceof DeviceParameter && !(fresh instanceof DeviceTensor)) mask.restore(fresh);
  else overwrite(mask, fresh);
}

const startOf = (schedule: MaskSchedule): number =>
  schedule.kind === "one-shot" ? schedule.step : schedule.kind === "frozen" ? 0 : schedule.start;

function checkSteps(schedule: MaskSchedule, { totalSteps, gradual, fadeSteps = 0, score, ...others }: WeightPruningOptions): void {
  const refuse = (sentence: string): never => {
    throw new UsmLiteError("BAD_RECIPE", sentence);
  };
  if (gradual && schedule.kind !== "few-shot") refuse("gradual pruning needs the schedule few-shot, whose shots are its stages");
  if (score === "wanda" && schedule.kind !== "frozen" && startOf(schedule) === 0) {
    refuse("wanda looks at the inputs of the steps before a mask; start must be at least 1");
  }
  const forPruned = others.straightThrough || others.decay || fadeSteps > 0;
  if (score === "learned" && forPruned) refuse("learned scores take no straightThrough, decay or fadeSteps");
  if (totalSteps === undefined) return;
  if (!isPruned(schedule, totalSteps - 1))
    refuse(`start must be below the steps of training, ${totalSteps}; otherwise nothing is pruned in training`);
  if (gradual && (maskFrozenFrom(schedule) ?? 0) > totalSteps) {
    refuse(`the last shot must be within the ${totalSteps} steps of training; otherwise too little is pruned`);
  }
  if (fadeSteps > 0 && startOf(schedule) + fadeSteps > totalSteps) {
    refuse(`start and fadeSteps must be within the ${totalSteps} steps of training; otherwise pruned weights are not gone`);
  }
}
