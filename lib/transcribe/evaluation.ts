/** Word error rate and speed of a model on a manifest. */
import { hasWords, type Utterance } from "../data/manifest.js";
import { readUtterances } from "../data/utterance_audio.js";
import { UsmLiteError } from "../errors.js";
import { memoryStatistics, resetPeakMemory, threadCount } from "../native/runtime.js";
import { characterErrorRate, wordErrorRate, type ErrorRate } from "../text/word_error_rate.js";
import type { Recognizer } from "./recognizer.js";

/** Rates are fractions; intervals are 95 % bootstrap intervals over utterances. */
export interface EvaluationPart {
  readonly utterances: number;
  readonly words: number;
  readonly wer: number;
  readonly werInterval: readonly [low: number, high: number];
  readonly cer: number;
  readonly audioSeconds: number;
}

/** What {@link evaluate} measures: error rates, and how long it took. */
export interface Evaluation extends EvaluationPart {
  /** Reading and decoding of audio files, which any recognizer needs. */
  readonly audioDecodeSeconds: number;
  /** Log-mel, network and decoder. */
  readonly wallSeconds: number;
  /** Seconds of audio recognized in a second: audioSeconds / wallSeconds. */
  readonly rtfx: number;
  /** Highest tensor memory, weights included, in bytes. */
  readonly peakBytes: number;
  readonly threads: number;
  /** By the manifest's `dataset` field, where it has one; those without a word have no error rate and are left out. */
  readonly datasets: Readonly<Record<string, EvaluationPart>>;
  /** Every utterance, in manifest order. */
  readonly transcripts: readonly { readonly audio: string; readonly reference: string; readonly hypothesis: string }[];
}

export interface EvaluationOptions {
  /** Seconds of audio recognized in one forward pass; default 60. */
  readonly batchSeconds?: number;
  /** Called after every batch. */
  readonly onProgress?: (utterancesDone: number) => void;
}

/**
 * Recognizes the utterances of a manifest that have a transcript, and measures errors and speed.
 * @throws UsmLiteError BAD_MANIFEST when no utterance has a transcript; errors of audio files name manifest line and file
 *
 * @example
 * const { wer, rtfx } = await evaluate(new Recognizer(loadModel("packed")), readManifest("test.jsonl"));
 */
export async function evaluate(
  recognizer: Recognizer,
  utterances: readonly Utterance[],
  { batchSeconds = 60, onProgress }: EvaluationOptions = {},
): Promise<Evaluation> {
  if (!utterances.some(hasWords)) {
    throw new UsmLiteError("BAD_MANIFEST", "no utterance of the manifest has words in its transcript, so there is no error rate");
  }
  const { samplingRate } = recognizer.model.frontEnd.config;
  const hypotheses = new Map<Utterance, string>();
  let audioDecodeSeconds = 0;
  let wallSeconds = 0;
  let audioSeconds = 0;
  resetPeakMemory();
  for (const batch of batchesByLength(utterances, batchSeconds)) {
    const decodeStarted = performance.now();
    const samples = await readUtterances(batch, samplingRate);
    const started = performance.now();
    recognizer.transcribeBatch(samples).forEach(({ text }, index) => hypotheses.set(batch[index] as Utterance, text));
    audioDecodeSeconds += (started - decodeStarted) / 1000;
    wallSeconds += (performance.now() - started) / 1000;
    audioSeconds += samples.reduce((sum, { length }) => sum + length, 0) / samplingRate;
    onProgress?.(hypotheses.size);
  }
  const measure = (part: readonly Utterance[]): { summary: EvaluationPart; wordErrors: ErrorRate } => {
    const pairs = part.map((utterance) => ({ reference: utterance.text, hypothesis: hypotheses.get(utterance) ?? "" }));
    const words = wordErrorRate(pairs);
    const summary = {
      utterances: part.length,
      words: words.referenceLength,
      wer: words.rate,
      werInterval: words.interval,
      cer: characterErrorRate(pairs).rate,
      audioSeconds: part.reduce((sum, { duration }) => sum + duration, 0),
    };
    return { summary, wordErrors: words };
  };
  const datasets = [...new Set(utterances.filter(hasWords).flatMap(({ dataset }) => dataset ?? []))];
  return {
    ...measure(utterances).summary,
    audioSeconds,
    audioDecodeSeconds,
    wallSeconds,
    rtfx: audioSeconds / wallSeconds,
    peakBytes: memoryStatistics().peakBytes,
    threads: threadCount(),
    datasets: Object.fromEntries(datasets.map((name) => [name, measure(utterances.filter(({ dataset }) => dataset === name)).summary])),
    transcripts: utterances.map((utterance) => ({
      audio: utterance.audioPath,
      reference: utterance.text,
      hypothesis: hypotheses.get(utterance) ?? "",
    })),
  };
}

/** Similar lengths together, longest first: shared passes then hold about `seconds` of audio each. */
function batchesByLength(utterances: readonly Utterance[], seconds: number): Utterance[][] {
  const batches: Utterance[][] = [];
  let room = 0;
  for (const utterance of [...utterances].sort((a, b) => b.duration - a.duration)) {
    if (room < utterance.duration) {
      batches.push([]);
      room = seconds;
    }
    batches.at(-1)?.push(utterance);
    room -= utterance.duration;
  }
  return batches;
}
