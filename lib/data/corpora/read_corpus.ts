/** Speech corpora in the layouts in which they are published. */
import { basename, resolve } from "node:path";
import { audioDuration } from "../../audio/duration.js";
import { UsmLiteError } from "../../errors.js";
import { normalizeText } from "../../text/normalize.js";
import type { Utterance } from "../manifest.js";
import { badCorpus, corpusNames, sortedNames, type CorpusName, type CorpusPart, type CorpusUtterance } from "./corpus.js";
import { readKaldi } from "./kaldi.js";
import { readLibriSpeech } from "./librispeech.js";
import { readLjSpeech } from "./ljspeech.js";
import { readSpeechocean762 } from "./speechocean762.js";
import { readSpokenDigits } from "./spoken_digits.js";

const readers: Readonly<Record<CorpusName, (folder: string, part?: CorpusPart) => CorpusUtterance[]>> = {
  librispeech: readLibriSpeech,
  ljspeech: readLjSpeech,
  speechocean762: readSpeechocean762,
  fsdd: readSpokenDigits,
  kaldi: readKaldi,
};

/** Which part {@link readCorpus} reads. */
export interface ReadCorpusOptions {
  /**
   * speechocean762 and fsdd need it; librispeech where `folder` holds several sets; kaldi takes it as the name of the
   * folder with the lists. ljspeech has no parts.
   */
  readonly part?: CorpusPart | undefined;
  /** Called after each utterance, whose audio has then been looked at. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * The utterances of an unpacked corpus, for training, evaluation or {@link writeManifest}: transcripts as
 * {@link normalizeText} spells them, durations from the audio files, `CORPUS/SPEAKER` as speaker. `dataset` is the
 * corpus, or for `kaldi` the name of the folder.
 *
 * @param folder the folder that the published archive unpacks to
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE; BAD_CORPUS naming file and line for a missing list, a malformed
 *   line, a transcript without letters, with digits or without audio; BAD_AUDIO; INVALID_ARGUMENT for a part that the
 *   corpus does not have or that is missing
 *
 * @example
 * writeManifest("train.jsonl", await readCorpus("librispeech", "LibriSpeech/train-clean-100"));
 */
export async function readCorpus(corpus: CorpusName, folder: string, options: ReadCorpusOptions = {}): Promise<Utterance[]> {
  const { part, onProgress } = options;
  if (!corpusNames.includes(corpus)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `corpus "${corpus}" is unknown; choose ${corpusNames.join(", ")}`);
  }
  if (part !== undefined && part !== "train" && part !== "test") {
    throw new UsmLiteError("INVALID_ARGUMENT", `part "${String(part)}" is unknown; choose train or test`);
  }
  sortedNames(folder); // a folder that does not exist is said to be so, not to lack a file
  const found = readers[corpus](folder, part);
  if (found.length === 0) throw badCorpus(folder, `holds no utterance${part ? ` of part ${part}` : ""}; unpack the corpus anew`);

  const dataset = corpus === "kaldi" ? basename(resolve(folder)) : corpus;
  const fileSeconds = new Map<string, number>();
  const utterances: Utterance[] = [];
  for (const utterance of found) {
    const { audioPath, transcript, speaker, source } = utterance;
    const text = spelledText(transcript, source);
    const seconds = fileSeconds.get(audioPath) ?? (await secondsOf(utterance));
    fileSeconds.set(audioPath, seconds);
    utterances.push({
      audioPath: resolve(audioPath),
      ...timesOf(utterance, seconds),
      text,
      speaker: `${dataset}/${speaker}`,
      dataset,
      source,
    });
    onProgress?.(utterances.length, found.length);
  }
  return utterances;
}

function spelledText(transcript: string, source: string): string {
  if (/\d/.test(transcript)) throw badCorpus(source, "its transcript has digits; write numbers as the words that are spoken");
  const text = normalizeText(transcript);
  if (text === "") throw badCorpus(source, "its transcript has no letter A-Z; leave the line out");
  return text;
}

async function secondsOf({ audioPath, source }: CorpusUtterance): Promise<number> {
  try {
    return await audioDuration(audioPath);
  } catch (error) {
    if (!(error instanceof UsmLiteError)) throw error;
    if (error.code === "FILE_NOT_FOUND")
      throw badCorpus(source, `its audio file ${audioPath} does not exist; unpack the corpus anew`, error);
    throw new UsmLiteError(error.code, `${source}: ${error.message}`, { cause: error });
  }
}

// Kaldi lets segments end so much behind the end of the recording; they are cut there.
const toleratedSeconds = 0.5;

function timesOf({ segment }: CorpusUtterance, fileSeconds: number): { offset?: number; duration: number } {
  if (!segment) return { duration: microseconds(fileSeconds) };
  const { begin, end = fileSeconds, source } = segment;
  if (begin >= fileSeconds || end > fileSeconds + toleratedSeconds) {
    throw badCorpus(source, `the segment from ${begin} to ${end} s reaches beyond the end of its recording, ${fileSeconds.toFixed(2)} s`);
  }
  return { offset: begin, duration: microseconds(Math.min(end, fileSeconds) - begin) };
}

/** Seconds without the noise of binary fractions. */
const microseconds = (seconds: number): number => Math.round(1e6 * seconds) / 1e6;
