/** Learns the factors of an adapter; the model that it is added to stays as it is. */
import { UsmLiteError } from "../errors.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { featuresOnDevice } from "../device/placement.js";
import { isOnGpu } from "../models/device_training.js";
import { withAdapters, type SharedAdapters } from "../nn/adapter_scope.js";
import { RandomStream } from "../ops/random_stream.js";
import { Tape } from "../ops/tape.js";
import { tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { AdamW } from "../train/optimizer.js";
import type { TrainableModel, TrainingBatch, TrainingContext } from "../train/trainable_model.js";
import type { Adapter } from "./adapter.js";
import type { ResolvedAdapterSettings } from "./adapter_settings.js";
import { batchOf, masked, shuffledGroups, type SpokenText } from "./speaker_speech.js";

/** An adapter in a forward pass, and whether it learns. */
export interface TrainedAdapter {
  readonly adapter: Adapter;
  readonly learns: boolean;
}

/**
 * AdamW over the factors of adapters. The model computes as in inference, with its own statistics of batch normalization
 * and without dropout, on packed weights if it has such: what is learned is what will be heard.
 */
export class AdapterTraining {
  private readonly optimizer: AdamW;
  private readonly random: RandomStream;
  private readonly shuffling: RandomStream;
  private readonly device: "cpu" | "cuda";

  /**
   * @param learning all adapters that any step learns, by a name for each; where the model is
   * @param bins values in a frame of features
   */
  constructor(
    private readonly model: TrainableModel,
    learning: ReadonlyMap<string, Adapter>,
    private readonly bins: number,
    private readonly options: ResolvedAdapterSettings,
  ) {
    const parameters = new Map<string, Tensor>();
    for (const [label, { factors }] of learning) {
      for (const [name, { down, up }] of factors) {
        parameters.set(`${label}.${name}.down`, down);
        parameters.set(`${label}.${name}.up`, up);
      }
    }
    for (const parameter of parameters.values()) parameter.requiresGrad = true;
    this.optimizer = new AdamW(parameters, { weightDecay: options.weightDecay });
    this.device = isOnGpu(model) ? "cuda" : "cpu";
    this.random = RandomStream.derived(options.seed, 1);
    this.shuffling = RandomStream.derived(options.seed, 2);
  }

  /**
   * Learns from every utterance once; returns the mean loss.
   * @param adapters added to the model, in the order in which they are added up
   * @throws UsmLiteError TRAINING_DIVERGED when loss or gradients are not finite
   */
  epoch(speech: readonly SpokenText[], adapters: readonly TrainedAdapter[], learningRate = this.options.learningRate): number {
    const { batchSeconds } = this.options;
    const groups = shuffledGroups(speech, batchSeconds, this.shuffling);
    const losses = groups.map((group) => this.step(group, adapters, learningRate));
    return losses.reduce((a, b) => a + b, 0) / losses.length;
  }

  /** One step; returns the loss before it. */
  step(speech: readonly SpokenText[], adapters: readonly TrainedAdapter[], learningRate = this.options.learningRate): number {
    const { dropout, specAugment, maximumNorm } = this.options;
    using tape = new Tape();
    const scope = this.scope(adapters, dropout);
    for (const { adapter, learns } of adapters) {
      for (const { down, up } of adapter.factors.values()) down.requiresGrad = up.requiresGrad = learns;
    }
    const loss = tidy(() => {
      const heard = specAugment ? masked(speech, this.bins, this.random, specAugment) : speech;
      const batch = this.batch(heard);
      const result = tape.record(() => withAdapters(scope, () => this.model.loss(batch, this.context)));
      const value = (): number => result.loss.toArray()[0] as number;
      // The GPU is not waited for before the gradients are on their way.
      if (result.loss instanceof DeviceTensor) tape.backward(result.loss);
      else if (Number.isFinite(value())) tape.backward(result.loss);
      return value();
    });
    const norm = Number.isFinite(loss)
      ? this.optimizer.step((parameter) => tape.gradientOf(parameter), learningRate, { maximumNorm })
      : NaN;
    if (Number.isFinite(norm)) return loss;
    throw new UsmLiteError("TRAINING_DIVERGED", `loss ${loss} or its gradients are not finite at learning rate ${learningRate}; lower it`);
  }

  /** Mean loss of speech that is not learned from, each utterance counting the same. */
  loss(speech: readonly SpokenText[], adapters: readonly TrainedAdapter[]): number {
    const { batchSeconds } = this.options;
    const groups = shuffledGroups(speech, batchSeconds, RandomStream.derived(this.options.seed, 3));
    const scope = this.scope(adapters, 0);
    const sum = groups.reduce((total, group) => {
      const loss = tidy(() => withAdapters(scope, () => this.model.loss(this.batch(group), this.context).loss.toArray()[0] as number));
      return total + loss * group.length;
    }, 0);
    return sum / speech.length;
  }

  dispose(): void {
    this.optimizer.dispose();
  }

  private batch(speech: readonly SpokenText[]): TrainingBatch {
    const { features, ...rest } = batchOf(speech, this.bins);
    return { ...rest, features: featuresOnDevice(features, this.device) };
  }

  private get context(): TrainingContext {
    return { training: false, random: this.random, step: this.optimizer.steps };
  }

  /** Those that learn, or have learned here, are scaled; those that came from elsewhere are not. */
  private scope(adapters: readonly TrainedAdapter[], dropout: number): SharedAdapters {
    const { scale } = this.options;
    return {
      kind: "all",
      adapters: adapters.map(({ adapter, learns }) => ({ factors: adapter.factors, scale: learns ? scale : 1 })),
      ...(dropout > 0 ? { dropout: { probability: dropout, random: this.random } } : {}),
    };
  }
}
