/** The features and transcripts of a few minutes of speech, in memory, as batches to learn from. */
import type { Utterance } from "../data/manifest.js";
import { readUtterance } from "../data/utterance_audio.js";
import type { SpeechModel } from "../models/model_folder.js";
import { tidy } from "../tensor/scope.js";
import { specAugment, type SpecAugmentOptions } from "../data/spec_augment.js";
import { UsmLiteError } from "../errors.js";
import { RandomStream } from "../ops/random_stream.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import type { TrainingBatch } from "../train/trainable_model.js";

/** One utterance, ready to be learned from. */
export interface SpokenText {
  /** Mono, at the model's rate. */
  readonly samples: Float32Array;
  readonly text: string;
  /** (frames, bins) */
  readonly features: Float32Array;
  /** Token ids of its transcript. */
  readonly targets: readonly number[];
  readonly seconds: number;
}

/**
 * Reads utterances and computes their features.
 * @param texts instead of those of the manifest, for each utterance
 * @throws UsmLiteError BAD_MANIFEST when a transcript is empty, BAD_TOKENIZER; errors of audio files name manifest line and file
 */
export async function spokenTexts(model: SpeechModel, utterances: readonly Utterance[], texts?: readonly string[]): Promise<SpokenText[]> {
  const spoken: SpokenText[] = [];
  for (const [index, utterance] of utterances.entries()) {
    const text = texts ? (texts[index] as string) : utterance.text;
    const samples = await readUtterance(utterance);
    spoken.push(spokenText(model, samples, text, utterance.source));
  }
  return spoken;
}

/** @param source where the transcript comes from, for messages */
export function spokenText(model: SpeechModel, samples: Float32Array, text: string, source: string): SpokenText {
  const { tokenizer, frontEnd } = model;
  if (!tokenizer) throw new UsmLiteError("BAD_TOKENIZER", `model folder ${model.folder} has no tokenizer.json, so it cannot learn from text`);
  const targets = tokenizer.encode(text);
  if (targets.length === 0) throw new UsmLiteError("BAD_MANIFEST", `${source}: its transcript is empty; leave it out`);
  const features = tidy(() => frontEnd.features(samples).toArray());
  return { samples, text, features, targets, seconds: samples.length / frontEnd.config.samplingRate };
}

/** @throws UsmLiteError INVALID_ARGUMENT without utterances */
export function batchOf(spoken: readonly SpokenText[], bins: number): TrainingBatch {
  if (spoken.length === 0) throw new UsmLiteError("INVALID_ARGUMENT", "a batch needs an utterance");
  const values = new Float32Array(spoken.reduce((sum, { features }) => sum + features.length, 0));
  let at = 0;
  for (const { features } of spoken) {
    values.set(features, at);
    at += features.length;
  }
  return {
    features: Tensor.from(values, [values.length / bins, bins]),
    offsets: new SequenceOffsets(spoken.map(({ features }) => features.length / bins)),
    targets: spoken.map(({ targets }) => targets),
    audioSeconds: spoken.reduce((sum, { seconds }) => sum + seconds, 0),
  };
}

/** Utterances in an order of this epoch's own, in groups of at most so many seconds (or one utterance). */
export function shuffledGroups(spoken: readonly SpokenText[], seconds: number, random: RandomStream): SpokenText[][] {
  const order = [...spoken];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j] as SpokenText, order[i] as SpokenText];
  }
  const groups: SpokenText[][] = [];
  let room = 0;
  for (const utterance of order) {
    if (room < utterance.seconds) {
      groups.push([]);
      room = seconds;
    }
    groups.at(-1)?.push(utterance);
    room -= utterance.seconds;
  }
  return groups;
}

/** Copies with random bands and stretches masked. */
export function masked(spoken: readonly SpokenText[], bins: number, random: RandomStream, options: SpecAugmentOptions): SpokenText[] {
  return spoken.map((utterance) => {
    const features = utterance.features.slice();
    specAugment(features, bins, random, options);
    return { ...utterance, features };
  });
}
