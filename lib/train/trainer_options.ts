/** What a training run is asked for, and what it gives. */
import type { ManifestDigest } from "../data/manifest_digest.js";
import type { AdamWOptions } from "./optimizer.js";
import type { LearningRateSchedule } from "./schedule.js";
import type { WeightTransform } from "./trainable_model.js";
import type { StepMetrics } from "./training_log.js";
import type { TrainingModifier } from "./training_modifier.js";

/** Measures the model now and then; its weights are the averaged ones when the run averages. */
export interface Validation {
  /** Steps between measurements. */
  readonly everySteps: number;
  /** @param transformWeight how compressed layers see their weights, to be passed to the forward pass */
  run(step: number, transformWeight: WeightTransform | undefined): Promise<Readonly<Record<string, number>>>;
}

/** What a {@link Trainer} is told of a run. */
export interface TrainerOptions {
  /** Receives `metrics.jsonl` and `checkpoints/`. */
  readonly folder: string;
  readonly totalSteps: number;
  readonly schedule: LearningRateSchedule;
  /** What the batches come from: checkpoints keep it, and a run with another is not continued. */
  readonly manifests?: readonly ManifestDigest[];
  /** Seeds dropout and other noise; default 1. */
  readonly seed?: number;
  readonly optimizer?: AdamWOptions;
  /** Gradients are scaled down to this global norm when theirs is larger; default 1. */
  readonly maximumNorm?: number;
  /** Batches whose gradients are averaged into one step; default 1. */
  readonly accumulate?: number;
  /** Decay of the moving average of weights; absent: no average is kept. */
  readonly averageDecay?: number;
  /** Pruning, quantization, distillation and the like. The trainer disposes of them. */
  readonly modifiers?: readonly TrainingModifier[];
  /** A checkpoint is written at the end and whenever one of these has passed; defaults: 10 minutes, keep 3. */
  readonly checkpoints?: { readonly everySteps?: number; readonly everyMinutes?: number; readonly keep?: number };
  readonly validation?: Validation;
  /** Steps in a row without finite loss and gradients before the run is given up; default 5, or half of the steps of a shorter run. */
  readonly maximumSkips?: number;
  /** Called after each step. */
  readonly onStep?: (metrics: StepMetrics) => void;
}

/** How a run, or this part of it, ended. */
export interface TrainingResult {
  /** Steps done. */
  readonly step: number;
  /** False when a signal stopped the run; it continues from the checkpoint. */
  readonly completed: boolean;
  /** The last checkpoint. */
  readonly checkpoint: string;
}
