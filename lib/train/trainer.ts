/** The training loop of every model. */
import { join } from "node:path";
import type { BatchSource } from "../data/batch_source.js";
import { overwrite } from "../device/device_parameter.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { featuresOnDevice, sequencesOnGpu } from "../device/placement.js";
import { deviceSpecAugment } from "../device/spec_augment.js";
import { UsmLiteError } from "../errors.js";
import { RandomStream } from "../ops/random_stream.js";
import { Tape } from "../ops/tape.js";
import { keep, tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { packingOf, transformOf } from "./combined_modifiers.js";
import { Interruption } from "./interruption.js";
import { AdamW, type ParameterSettings } from "./optimizer.js";
import type { BatchLoss, TrainableModel, TrainingBatch, TrainingContext, WeightTransform } from "./trainable_model.js";
import {
  CheckpointFolder,
  refuseOtherSpeech,
  restoreCheckpoint,
  type TrainingPosition,
  type TrainingState,
} from "./training_checkpoint.js";
import { MetricsFile, TrainingProgress, type StepMetrics } from "./training_log.js";
import type { TrainerOptions, TrainingResult, Validation } from "./trainer_options.js";
import type { TrainingModifier } from "./training_modifier.js";
import { WeightAverage } from "./weight_average.js";

/**
 * Trains a model: AdamW, gradient clipping and accumulation, weight averaging, checkpoints from which a run continues
 * to the same bits, metrics, validation. The loop computes in the calling thread and lets the event loop run between
 * steps; servers should run it in a worker. A model whose parameters are on the GPU takes whole steps there, and the loop waits for it once
 * a step, when all is on its way but the change of the weights; parameters may also be on both devices, if the model takes its activations from
 * the one to the other. Checkpoints are those of the CPU, and either device continues the other's.
 *
 * @example
 * const trainer = new Trainer(network, batches, { folder, totalSteps: 10_000, schedule });
 * trainer.resume();
 * await trainer.run({ handleSignals: true });
 */
export class Trainer {
  private readonly optimizer: AdamW;
  private readonly average: WeightAverage | undefined;
  private readonly random: RandomStream;
  private readonly checkpoints: CheckpointFolder;
  private readonly modifiers: readonly TrainingModifier[];
  private readonly transformWeight: WeightTransform | undefined;
  private readonly parameters: ReadonlyMap<string, Tensor>;
  private readonly onGpu: boolean;
  private step = 0;
  private epoch = 0;
  private batch = 0;
  private skipsInARow = 0;

  constructor(
    private readonly model: TrainableModel,
    private readonly batches: BatchSource,
    private readonly options: TrainerOptions,
  ) {
    for (const [key, value] of Object.entries({ totalSteps: options.totalSteps, accumulate: options.accumulate ?? 1 })) {
      if (!Number.isInteger(value) || value < 1) {
        throw new UsmLiteError("INVALID_ARGUMENT", `Trainer: ${key} is ${value}; it must be a whole number from 1`);
      }
    }
    this.modifiers = options.modifiers ?? [];
    this.transformWeight = transformOf(this.modifiers, "training");
    this.parameters = new Map([...model.parameters(), ...this.modifiers.flatMap((modifier) => [...(modifier.parameters?.() ?? [])])]);
    this.onGpu = [...this.parameters.values()].some((parameter) => parameter instanceof DeviceTensor);
    const settings = new Map([...this.parameters].map(([name, parameter]) => [name, this.settingsOf(name, parameter)]));
    for (const [name, parameter] of this.parameters) parameter.requiresGrad = !settings.get(name)?.frozen;
    this.optimizer = new AdamW(this.parameters, { ...options.optimizer, settingsOf: (name) => settings.get(name) ?? {} });
    this.average = options.averageDecay ? new WeightAverage(this.parameters, options.averageDecay) : undefined;
    this.random = new RandomStream(options.seed ?? 1);
    this.checkpoints = new CheckpointFolder(join(options.folder, "checkpoints"), options.checkpoints?.keep ?? 3);
  }

  /** Steps done. */
  get steps(): number {
    return this.step;
  }

  /** The averaged weights by parameter name, or the weights themselves when none are averaged. */
  weights(): ReadonlyMap<string, Tensor> {
    return this.average?.weights() ?? this.parameters;
  }

  /** Overwrites the weights with the averaged ones, after the run. */
  adoptAverage(): void {
    if (!this.average) return;
    for (const [name, average] of this.average.weights()) overwrite(this.parameters.get(name) as Tensor, average);
    this.model.weightsChanged?.();
  }

  /**
   * Continues from a checkpoint: `path`, or the newest in the run's folder. Returns false when there is none.
   * @throws UsmLiteError BAD_CHECKPOINT when it belongs to another model, configuration, seed or speech, or is of a later step than `totalSteps`
   */
  resume(path = this.checkpoints.latest()): boolean {
    if (path === undefined) return false;
    refuseOtherSpeech(path, this.options.manifests);
    const position = restoreCheckpoint(path, this.state());
    if (position.seed !== this.random.seed) {
      throw new UsmLiteError("BAD_CHECKPOINT", `${path} was written with seed ${position.seed}; this run has seed ${this.random.seed}`);
    }
    const { totalSteps } = this.options;
    if (position.step > totalSteps) {
      throw new UsmLiteError("BAD_CHECKPOINT", `${path} has had ${position.step} steps; this run ends after ${totalSteps}: give it more`);
    }
    ({ step: this.step, epoch: this.epoch, batch: this.batch } = position);
    this.random.position = position.randomPosition;
    this.optimizer.steps = position.optimizerSteps;
    if (this.average) this.average.updates = position.averageUpdates;
    for (const modifier of this.modifiers) modifier.restored?.(this.step);
    this.model.weightsChanged?.();
    return true;
  }

  /** Writes a checkpoint and returns its path. */
  save(): string {
    const position: TrainingPosition = {
      step: this.step,
      epoch: this.epoch,
      batch: this.batch,
      seed: this.random.seed,
      randomPosition: this.random.position,
      optimizerSteps: this.optimizer.steps,
      averageUpdates: this.average?.updates ?? 0,
      manifests: this.options.manifests,
    };
    return this.checkpoints.save(position, this.state());
  }

  /**
   * Trains until `totalSteps` or until stopped; either way a checkpoint is written last.
   * @param control.signal stops after the step in hand
   * @param control.handleSignals SIGINT and SIGTERM stop in the same way, a second one at once
   * @throws UsmLiteError TRAINING_DIVERGED
   */
  async run(control: { signal?: AbortSignal; handleSignals?: boolean } = {}): Promise<TrainingResult> {
    const { folder, totalSteps, validation, onStep } = this.options;
    const { everySteps = Infinity, everyMinutes = 10 } = this.options.checkpoints ?? {};
    const metricsFile = new MetricsFile(join(folder, "metrics.jsonl"), this.step);
    const progress = new TrainingProgress(totalSteps, this.step);
    const interruption = new Interruption(control.signal, control.handleSignals ?? false);
    let checkpoint: string | undefined;
    let savedAt = performance.now();
    try {
      while (this.step < totalSteps && !interruption.requested) {
        const metrics = this.trainStep();
        metricsFile.write(metrics);
        progress.update(metrics);
        onStep?.(metrics);
        checkpoint = undefined;
        this.checkDivergence(metrics);
        if (validation && this.step % validation.everySteps === 0) {
          metricsFile.write({ step: this.step, validation: await this.validate(validation) });
        }
        if (this.step % everySteps === 0 || performance.now() - savedAt > everyMinutes * 60_000) {
          checkpoint = this.save();
          savedAt = performance.now();
        }
        await new Promise((resolve) => setImmediate(resolve)); // signals are delivered between steps
      }
      checkpoint ??= this.save();
    } finally {
      interruption.dispose();
      progress.stop();
    }
    return { step: this.step, completed: this.step >= totalSteps, checkpoint };
  }

  /** One step over `accumulate` batches. */
  private trainStep(): StepMetrics {
    const { accumulate = 1, schedule, maximumNorm = 1 } = this.options;
    const started = performance.now();
    const epoch = this.epoch;
    const learningRate = schedule(this.step);
    const buffers = Array.from(this.model.buffers().values(), (buffer) => [buffer, keep(buffer.clone())] as const);
    for (const modifier of this.modifiers) modifier.beforeStep?.(this.step, this.random);
    const context: TrainingContext = {
      training: true,
      random: this.random,
      step: this.step,
      ...(this.transformWeight ? { transformWeight: this.transformWeight } : {}),
      ...packingOf(this.modifiers),
    };
    using tape = new Tape();
    const losses: Tensor[] = [];
    let audioSeconds = 0;
    let infeasible = 0;
    for (let i = 0; i < accumulate; i++) {
      tidy(() => {
        const batch = this.nextBatch();
        const result = tape.record(() => this.lossOf(batch, context));
        losses.push(keep(result.loss));
        audioSeconds += batch.audioSeconds;
        infeasible += result.infeasible ?? 0;
        // The GPU is not waited for: gradients of a loss that is not finite are thrown away below.
        if (result.loss instanceof DeviceTensor || Number.isFinite(valueOf(result.loss))) tape.backward(result.loss);
      });
    }
    const loss = losses.reduce((sum, one) => sum + valueOf(one) / accumulate, 0);
    const gradientOf = (parameter: Tensor): Tensor | undefined => tape.gradientOf(parameter);
    const gradientNorm = Number.isFinite(loss)
      ? this.optimizer.step(gradientOf, learningRate, { maximumNorm, gradientScale: 1 / accumulate })
      : NaN;
    const skipped = !Number.isFinite(gradientNorm);
    if (skipped) for (const [buffer, before] of buffers) overwrite(buffer, before);
    for (const tensor of [...losses, ...buffers.map(([, before]) => before)]) tensor.dispose();
    for (const modifier of this.modifiers) modifier.afterStep?.(this.step, skipped);
    if (!skipped) this.average?.update(); // of what modifiers made of the parameters: a learned scale that is positive again, say
    this.skipsInARow = skipped ? this.skipsInARow + 1 : 0;
    this.step++;
    const audioPerSecond = audioSeconds / ((performance.now() - started) / 1000);
    const own = Object.assign({}, ...this.modifiers.map((modifier) => modifier.metrics?.() ?? {})) as Record<string, number>;
    return { ...own, step: this.step, epoch, loss, learningRate, gradientNorm, audioPerSecond, infeasible, skipped };
  }

  /** The model's loss with what the modifiers put around it. */
  private lossOf(batch: TrainingBatch, context: TrainingContext): BatchLoss {
    const chain = this.modifiers.reduceRight<(context: TrainingContext) => BatchLoss>(
      (next, modifier) => (modifier.loss ? (inner) => modifier.loss?.(batch, inner, next) as BatchLoss : next),
      (inner) => this.model.loss(batch, inner),
    );
    return chain(context);
  }

  /** The last modifier that says something about a parameter decides. */
  private settingsOf(name: string, parameter: Tensor): ParameterSettings {
    const { optimizer } = this.options;
    const all = [optimizer?.settingsOf?.(name, parameter), ...this.modifiers.map((modifier) => modifier.settingsOf?.(name, parameter))];
    return Object.assign({}, ...all) as ParameterSettings;
  }

  private nextBatch(): ReturnType<BatchSource["batch"]> {
    const batch = this.batches.batch(this.epoch, this.batch, this.onGpu);
    this.batch++;
    if (this.batch >= this.batches.count(this.epoch)) {
      this.epoch++;
      this.batch = 0;
    }
    return this.onGpu ? onDevice(batch) : batch;
  }

  private checkDivergence(metrics: StepMetrics): void {
    const { maximumSkips = 5, totalSteps } = this.options;
    // A short run that is skipped to its end would otherwise pass for one that has learned.
    if (this.skipsInARow < Math.min(maximumSkips, Math.ceil(totalSteps / 2))) return;
    const latest = this.checkpoints.latest();
    throw new UsmLiteError(
      "TRAINING_DIVERGED",
      `loss or gradients were not finite in ${this.skipsInARow === 1 ? "a step" : `${this.skipsInARow} steps in a row`}, ` +
        `up to step ${metrics.step} (learning rate ${metrics.learningRate}); lower the learning rate or lengthen the warm-up, and start again` +
        (latest ? ` or continue from ${latest}` : ""),
    );
  }

  private async validate(validation: Validation): Promise<Readonly<Record<string, number>>> {
    const measure = (): Promise<Readonly<Record<string, number>>> => {
      this.model.weightsChanged?.();
      return validation.run(this.step, transformOf(this.modifiers, "evaluation"));
    };
    try {
      return await (this.average ? this.average.use(measure) : measure());
    } finally {
      this.model.weightsChanged?.();
    }
  }

  private state(): TrainingState {
    const states = this.modifiers.flatMap((modifier) => [...(modifier.state?.() ?? [])]);
    return new Map<string, ReadonlyMap<string, Tensor>>([
      ["parameter", this.parameters],
      ["buffer", this.model.buffers()],
      ["optimizer", this.optimizer.state()],
      ...(this.average ? [["average", this.average.weights()] as const] : []),
      ...(states.length > 0 ? [["modifier", new Map(states)] as const] : []),
    ]);
  }

  /** Releases the optimizer's state, the averaged weights and the modifiers. */
  dispose(): void {
    this.optimizer.dispose();
    this.average?.dispose();
    for (const modifier of this.modifiers) modifier.dispose?.();
  }
}

/** The batch with its features on the GPU, masked. */
function onDevice({ masks, ...batch }: TrainingBatch): TrainingBatch {
  const features = featuresOnDevice(batch.features, "cuda");
  if (masks) deviceSpecAugment(onGpu(features, "features"), sequencesOnGpu(batch.offsets), masks);
  return { ...batch, features };
}

const valueOf = (loss: Tensor): number => loss.toArray()[0] as number;
