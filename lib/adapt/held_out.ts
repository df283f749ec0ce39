/** What adapters are judged by: speech that they were not learned from. */
import { wordErrorRate, type Transcription } from "../text/word_error_rate.js";
import type { Recognizer } from "../transcribe/recognizer.js";
import type { Adapter } from "./adapter.js";
import type { SpokenText } from "./speaker_speech.js";

/** On speech that was not learned from. */
export interface HeldOutResult {
  /** Mean CTC loss, or transducer loss, or cross-entropy of the tokens that a decoder is to write. */
  readonly loss: number;
  readonly wer: number;
}

/** Seconds of audio that are recognized in one call. */
const secondsPerCall = 60;

/** What a recognizer hears with its own decoder. @param adapter what it listens with */
export function heldOutTexts(recognizer: Recognizer, heldOut: readonly SpokenText[], adapter: Adapter | undefined): string[] {
  const texts: string[] = [];
  for (let begin = 0, end = 0; begin < heldOut.length; begin = end) {
    for (let seconds = 0; end < heldOut.length && (end === begin || seconds < secondsPerCall); end++)
      seconds += (heldOut[end] as SpokenText).seconds;
    const samples = heldOut.slice(begin, end).map((one) => one.samples);
    texts.push(...recognizer.transcribeBatch(samples, undefined, adapter).map(({ text }) => text));
  }
  return texts;
}

export const paired = (heldOut: readonly SpokenText[], texts: readonly string[]): Transcription[] =>
  heldOut.map(({ text }, index) => ({ reference: text, hypothesis: texts[index] as string }));

export const textErrorRate = (transcriptions: readonly Transcription[]): number => wordErrorRate(transcriptions, { resamples: 1 }).rate;

export function heldOutWer(recognizer: Recognizer, heldOut: readonly SpokenText[], adapter: Adapter | undefined): number {
  return textErrorRate(paired(heldOut, heldOutTexts(recognizer, heldOut, adapter)));
}
