/** Training batches of recorded speech: cached features, speed perturbation, noise, SpecAugment. */
import { UsmLiteError } from "../errors.js";
import { RandomStream } from "../ops/random_stream.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import type { TrainingBatch } from "../train/trainable_model.js";
import type { BatchSource } from "./batch_source.js";
import { planBatches, type BatchingOptions } from "./batching.js";
import type { FeatureCache, Features } from "./feature_cache.js";
import type { Utterance } from "./manifest.js";
import { noiseAugment, type NoiseAugmentOptions } from "./noise_augment.js";
import { specAugment, specAugmentMasks, type SpecAugmentMasks, type SpecAugmentOptions } from "./spec_augment.js";

/** How {@link SpeechBatches} divides and augments speech. */
export interface SpeechBatchesOptions extends BatchingOptions {
  /** Speeds drawn from, each equally likely, anew in each epoch; default [1]. The cache must hold them. */
  readonly speeds?: readonly number[];
  /** In the first so many epochs there is no augmentation, speed included, and models drop nothing; default 0. */
  readonly plainEpochs?: number;
  /** Labels of a transcript for a second loss on an inner layer. */
  readonly encodeInner?: (text: string) => readonly number[];
  /** Every utterance costs as much as one of so many seconds: a window that is filled up with silence. */
  readonly windowSeconds?: number;
  /** See {@link TrainingBatch.labelSmoothing}. */
  readonly labelSmoothing?: number;
  /** Absent: no masks. */
  readonly specAugment?: SpecAugmentOptions;
  /** Absent: no noise. */
  readonly noise?: NoiseAugmentOptions;
}

// Which stream of (seed, epoch, ..) is used for what.
const speedKey = 1;
const augmentKey = 2;
const energyFloor = Math.log(1e-5); // of the log-mel front end
const nothing: SpecAugmentMasks = { bins: [], frames: [] };

/**
 * Batches over the utterances of manifests. All randomness comes from (seed, epoch, utterance).
 *
 * @example
 * const batches = new SpeechBatches(utterances, (text) => tokenizer.encode(text), cache, { batchSeconds: 60, seed: 1, specAugment: {} });
 * using batch = batches.batch(0, 0).features; // (frames, mel bins) of the first batch of the first epoch
 */
export class SpeechBatches implements BatchSource {
  private readonly targets: readonly (readonly number[])[];
  private readonly innerTargets: readonly (readonly number[])[] | undefined;
  private plan: { epoch: number; batches: number[][]; speeds: number[] } | undefined;

  /**
   * @param encode token ids of a transcript
   * @throws UsmLiteError BAD_MANIFEST when an utterance has no transcript
   */
  constructor(
    private readonly utterances: readonly Utterance[],
    encode: (text: string) => readonly number[],
    private readonly cache: FeatureCache,
    private readonly options: SpeechBatchesOptions,
  ) {
    this.targets = utterances.map(({ text, source }) => {
      const ids = encode(text);
      if (ids.length === 0) throw emptyTranscript(source);
      return ids;
    });
    const { encodeInner } = options;
    this.innerTargets = encodeInner && utterances.map(({ text }) => encodeInner(text));
  }

  count(epoch: number): number {
    return this.planOf(epoch).batches.length;
  }

  batch(epoch: number, index: number, masksApart = false): TrainingBatch {
    const { batches, speeds } = this.planOf(epoch);
    const indices = batches[index];
    if (!indices) throw new UsmLiteError("INVALID_ARGUMENT", `epoch ${epoch} has ${batches.length} batches, not one with index ${index}`);
    const features = indices.map((utterance) => this.augmented(utterance, speeds[utterance] as number, epoch, masksApart));
    const bins = features[0]?.bins as number;
    const values = new Float32Array(features.reduce((sum, one) => sum + one.values.length, 0));
    let at = 0;
    for (const one of features) {
      values.set(one.values, at);
      at += one.values.length;
    }
    return {
      features: Tensor.from(values, [values.length / bins, bins]),
      offsets: new SequenceOffsets(features.map(({ frames }) => frames)),
      ...(features.some(({ masks }) => masks) ? { masks: features.map(({ masks = nothing }) => masks) } : {}),
      targets: indices.map((utterance) => this.targets[utterance] as readonly number[]),
      ...(this.innerTargets
        ? {
            innerTargets: indices.map((utterance) => (this.innerTargets as readonly (readonly number[])[])[utterance] as readonly number[]),
          }
        : {}),
      ...(this.options.labelSmoothing ? { labelSmoothing: this.options.labelSmoothing } : {}),
      plain: epoch < (this.options.plainEpochs ?? 0),
      audioSeconds: indices.reduce((sum, utterance) => sum + this.seconds(utterance, speeds[utterance] as number), 0),
    };
  }

  private augmented(index: number, speed: number, epoch: number, masksApart: boolean): Features & { readonly masks?: SpecAugmentMasks } {
    const features = this.cache.read(this.utterances[index] as Utterance, speed);
    const random = RandomStream.derived(this.options.seed, epoch, augmentKey, index);
    const { noise, specAugment: masks, plainEpochs = 0 } = this.options;
    if (epoch < plainEpochs) return features;
    if (noise) noiseAugment(features.values, features.bins, energyFloor, random, noise);
    if (!masks) return features;
    // Of samples, which are frames of a single value, the GPU has no matrix.
    if (masksApart && features.bins > 1) return { ...features, masks: specAugmentMasks(features.frames, features.bins, random, masks) };
    specAugment(features.values, features.bins, random, masks);
    return features;
  }

  private planOf(epoch: number): { batches: number[][]; speeds: number[] } {
    if (this.plan?.epoch !== epoch) {
      const { speeds: allSpeeds = [1], seed, plainEpochs = 0, windowSeconds } = this.options;
      const speeds = epoch < plainEpochs && allSpeeds.includes(1) ? [1] : allSpeeds;
      const random = RandomStream.derived(seed, epoch, speedKey);
      const drawn = this.utterances.map(() => speeds[random.integer(speeds.length)] as number);
      const durations = drawn.map((speed, index) => windowSeconds ?? this.seconds(index, speed));
      this.plan = { epoch, batches: planBatches(durations, epoch, this.options), speeds: drawn };
    }
    return this.plan;
  }

  private seconds(index: number, speed: number): number {
    return (this.utterances[index] as Utterance).duration / speed;
  }
}

/** @param source "FILE:LINE" of the manifest */
export const emptyTranscript = (source: string): UsmLiteError =>
  new UsmLiteError("BAD_MANIFEST", `${source}: its transcript is empty; leave it out for training`);
