/** The features and transcripts of a few minutes of speech, in memory, as batches to learn from. */
import type { Utterance } from "../data/manifest.js";
import { specAugment, type SpecAugmentOptions } from "../data/spec_augment.js";
import { readUtterance } from "../data/utterance_audio.js";
import { windowSecondsOf, withinWindow } from "../data/window_limit.js";
import { UsmLiteError } from "../errors.js";
import type { SpeechModel } from "../models/model_folder.js";
import { transcriptEncoder, type TranscriptEncoder } from "../models/transcript_encoder.js";
import { RandomStream } from "../ops/random_stream.js";
import { tidy } from "../tensor/scope.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import type { TrainingBatch } from "../train/trainable_model.js";

/** One utterance, ready to be learned from. */
export interface SpokenText {
  /** Mono, at the model's rate. */
  readonly samples: Float32Array;
  readonly text: string;
  /** (frames, bins) */
  readonly features: () => Float32Array;
  /** Frames of them that hold speech; silence fills up the rest of a window. */
  readonly spokenFrames: number;
  /** All that the network is to write: token ids of its transcript, or the sequence of a decoder. */
  readonly targets: readonly number[];
  readonly seconds: number;
  /** Of what the network hears: of a whole window where silence fills it up. */
  readonly heardSeconds: number;
}

/** How utterances become {@link SpokenText}s of a model. */
export interface SpeechReading {
  /** What sequence-to-sequence models of several languages are told. */
  readonly language?: string | undefined;
  readonly onStatus?: (sentence: string) => void;
}

/**
 * Reads utterances and computes their features. Those that are longer than a window of the model, or than its decoder, are left out.
 * @throws UsmLiteError BAD_MANIFEST when a transcript is empty, or all are longer than a window; BAD_TOKENIZER, INVALID_ARGUMENT for
 *   a language; errors of audio files name manifest line and file
 */
export async function spokenTexts(
  model: SpeechModel,
  utterances: readonly Utterance[],
  reading: SpeechReading = {},
): Promise<SpokenText[]> {
  const encode = transcriptEncoder(model, reading.language);
  const spoken: SpokenText[] = [];
  for (const utterance of heardWhole(model, utterances, reading)) {
    const samples = await readUtterance(utterance, model.frontEnd.config.samplingRate);
    spoken.push(spokenText(model, encode, { samples, text: utterance.text, source: utterance.source }));
  }
  return writtenWhole(model, spoken, reading);
}

/** Utterances that a window of the model holds. @throws UsmLiteError BAD_MANIFEST when none is left */
export const heardWhole = (
  { frontEnd }: SpeechModel,
  utterances: readonly Utterance[],
  { onStatus = () => {} }: SpeechReading,
): readonly Utterance[] => withinWindow(utterances, windowSecondsOf(frontEnd), [1], onStatus);

/** Those whose transcript the decoder has room for. */
export function writtenWhole({ network }: SpeechModel, spoken: SpokenText[], { onStatus = () => {} }: SpeechReading): SpokenText[] {
  if (network.kind !== "sequence-to-sequence") return spoken;
  const { positions } = network.generation;
  // The token that ends a sequence is written, and not read again.
  const kept = spoken.filter(({ targets }) => targets.length <= positions + 1);
  const left = spoken.length - kept.length;
  if (left > 0) {
    onStatus(`leaving out ${left} utterances whose transcripts are longer than the ${positions} tokens of the model's decoder`);
  }
  return kept;
}

/** @param encode what {@link transcriptEncoder} gave; @param source where the transcript comes from, for messages */
export function spokenText(
  { network, frontEnd }: SpeechModel,
  encode: TranscriptEncoder,
  { samples, text, source }: { samples: Float32Array; text: string; source: string },
): SpokenText {
  const { hopLength, samplingRate } = frontEnd.config;
  const targets = encode(text.trim());
  if (targets.length <= encode("").length) throw new UsmLiteError("BAD_MANIFEST", `${source}: its transcript is empty; leave it out`);
  const seconds = samples.length / samplingRate;
  const compute = (): Float32Array => tidy(() => frontEnd.features(samples).toArray());
  const windowSeconds = network.kind === "sequence-to-sequence" && network.fixedWindow ? windowSecondsOf(frontEnd) : undefined;
  const common = { samples, text, targets, seconds };
  // Windows are mostly silence, which is computed again faster than it is worth its memory.
  if (windowSeconds !== undefined) {
    return { ...common, features: compute, spokenFrames: Math.ceil(samples.length / hopLength), heardSeconds: windowSeconds };
  }
  const features = compute();
  return { ...common, features: () => features, spokenFrames: features.length / frontEnd.config.featureSize, heardSeconds: seconds };
}

/** @throws UsmLiteError INVALID_ARGUMENT without utterances */
export function batchOf(spoken: readonly SpokenText[], bins: number): TrainingBatch {
  if (spoken.length === 0) throw new UsmLiteError("INVALID_ARGUMENT", "a batch needs an utterance");
  const parts = spoken.map(({ features }) => features());
  const values = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    values.set(part, at);
    at += part.length;
  }
  return {
    features: Tensor.from(values, [values.length / bins, bins]),
    offsets: new SequenceOffsets(parts.map(({ length }) => length / bins)),
    targets: spoken.map(({ targets }) => targets),
    audioSeconds: spoken.reduce((sum, { seconds }) => sum + seconds, 0),
  };
}

/** Utterances in an order of this epoch's own, in groups of which the network hears at most so many seconds (or one utterance). */
export function shuffledGroups(spoken: readonly SpokenText[], seconds: number, random: RandomStream): SpokenText[][] {
  const order = [...spoken];
  for (let i = order.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [order[i], order[j]] = [order[j] as SpokenText, order[i] as SpokenText];
  }
  const groups: SpokenText[][] = [];
  let room = 0;
  for (const utterance of order) {
    if (room < utterance.heardSeconds) {
      groups.push([]);
      room = seconds;
    }
    groups.at(-1)?.push(utterance);
    room -= utterance.heardSeconds;
  }
  return groups;
}

/** Copies with random bands and stretches of the speech masked. */
export function masked(spoken: readonly SpokenText[], bins: number, random: RandomStream, options: SpecAugmentOptions): SpokenText[] {
  return spoken.map((utterance) => {
    const features = utterance.features().slice();
    specAugment(features.subarray(0, utterance.spokenFrames * bins), bins, random, options);
    return { ...utterance, features: () => features };
  });
}
