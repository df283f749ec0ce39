/** Quantization-aware training with N:M masks: `w_eff = fakeQuantize(mask * w)` (USM-Lite, arXiv 2312.08553). */
import { UsmLiteError } from "../errors.js";
import { fakeQuantize } from "../quant/fake_quantize.js";
import { formatWeightSpec, type WeightSpec } from "../quant/weight_spec.js";
import { magnitudeMask } from "../sparse/mask.js";
import { checkMaskSchedule, isPruned, recomputesMask, type MaskSchedule } from "../sparse/schedule.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { TrainableModel } from "./trainable_model.js";
import type { TrainedCompression } from "./trainer.js";

export interface WeightCompressionOptions {
  /** When masks are recomputed; default once, before the first step. */
  readonly masks?: MaskSchedule;
  /** Treat the quantization scale as a constant in the backward pass; default false. */
  readonly stopScaleGradient?: boolean;
}

interface CompressedWeight {
  readonly weight: Tensor;
  /** Spec with and without its sparsity, canonical. */
  readonly text: string;
  readonly denseText: string;
  readonly kept: number;
  readonly of: number;
  /** uint8, 1 where kept; all ones before the first pruning. Absent for dense specs. */
  readonly mask: Tensor | undefined;
}

/**
 * What a compression plan does to the weights of a model in training. Weights are quantized from the first step on
 * and pruned from the schedule's first step on. Pruned weights keep their value and get no gradient, so that a later
 * mask can bring them back.
 */
export class WeightCompression implements TrainedCompression {
  private readonly weights = new Map<string, CompressedWeight>();
  private readonly schedule: MaskSchedule;
  private readonly stopScaleGradient: boolean;
  private pruned = false;

  /**
   * @param plan spec of each compressed weight by parameter name; the others stay float32
   * @throws UsmLiteError INVALID_ARGUMENT for a name that is no linear weight of the model, or an impossible schedule
   */
  constructor(model: TrainableModel, plan: ReadonlyMap<string, WeightSpec>, options: WeightCompressionOptions = {}) {
    this.schedule = options.masks ?? { kind: "one-shot", step: 0 };
    this.stopScaleGradient = options.stopScaleGradient ?? false;
    checkMaskSchedule(this.schedule);
    const linear = new Set(model.linearWeights());
    for (const [name, spec] of plan) {
      const weight = model.parameters().get(name);
      if (!weight || !linear.has(name)) {
        throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" is no linear weight of the model; one is "${[...linear][0]}"`);
      }
      const { sparsity, text: _, ...dense } = spec;
      this.weights.set(name, {
        weight,
        text: spec.text,
        denseText: formatWeightSpec(dense),
        kept: sparsity?.kept ?? 1,
        of: sparsity?.of ?? 1,
        mask: sparsity && keep(Tensor.from(new Uint8Array(weight.size).fill(1), weight.shape, "uint8")),
      });
    }
  }

  beforeStep(step: number): void {
    this.pruned = isPruned(this.schedule, step);
    if (!recomputesMask(this.schedule, step)) return;
    tidy(() => {
      for (const { weight, mask, kept, of } of this.weights.values()) {
        mask?.write(magnitudeMask(weight, kept, of).toArray());
      }
    });
  }

  readonly transformWeight = (name: string, weight: Tensor): Tensor => {
    const compressed = this.weights.get(name);
    if (!compressed) return weight;
    const { mask, text, denseText } = compressed;
    const pruning = mask && this.pruned;
    return fakeQuantize(weight, pruning ? text : denseText, {
      stopScaleGradient: this.stopScaleGradient,
      ...(pruning ? { mask } : {}),
    });
  };

  /** Masks by parameter name, for packing: {@link packWeight} must prune what training pruned. */
  masks(): ReadonlyMap<string, Tensor> {
    return new Map([...this.weights].flatMap(([name, { mask }]): [string, Tensor][] => (mask ? [[name, mask]] : [])));
  }

  /** The masks; a checkpoint keeps them. */
  state(): ReadonlyMap<string, Tensor> {
    return this.masks();
  }

  dispose(): void {
    for (const { mask } of this.weights.values()) mask?.dispose();
  }
}
