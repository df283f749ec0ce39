/** What the readers of the corpora have in common. */
import { readdirSync } from "node:fs";
import { readTextFile, unreadableFile } from "../../checkpoint/json_file.js";
import { UsmLiteError } from "../../errors.js";

/**
 * Corpora that {@link readCorpus} knows; `kaldi` is any folder with text, wav.scp and utt2spk.
 *
 * @example
 * for (const name of corpusNames) console.log(name); // librispeech, ljspeech, ..
 */
export const corpusNames = ["librispeech", "ljspeech", "speechocean762", "fsdd", "kaldi"] as const;
/** One of {@link corpusNames}. */
export type CorpusName = (typeof corpusNames)[number];

/** Parts of a corpus by its official split. */
export type CorpusPart = "train" | "test";

/** One utterance as a corpus lists it; its audio has not been looked at. */
export interface CorpusUtterance {
  /** Path of the audio file. */
  readonly audioPath: string;
  /** As the corpus writes it. */
  readonly transcript: string;
  /** As the corpus names the speaker. */
  readonly speaker: string;
  /** Absent: the whole file. */
  readonly segment?: CorpusSegment;
  /** "FILE:LINE" of the transcript, or the audio file where the corpus has no transcripts; for messages. */
  readonly source: string;
}

/** Where in its audio file an utterance lies, in seconds. */
export interface CorpusSegment {
  readonly begin: number;
  /** Undefined: the end of the file. */
  readonly end: number | undefined;
  /** "FILE:LINE" */
  readonly source: string;
}

export interface CorpusLine {
  readonly text: string;
  /** "FILE:LINE" */
  readonly source: string;
}

/** A BAD_CORPUS error about a file, a line or a folder. */
export function badCorpus(where: string, sentence: string, cause?: unknown): UsmLiteError {
  return new UsmLiteError("BAD_CORPUS", `${where}: ${sentence}`, { cause });
}

/**
 * The lines of a corpus file that are not empty.
 * @param advice what would be right, for the message when the file does not exist
 * @throws UsmLiteError BAD_CORPUS, FILE_UNREADABLE
 */
export function corpusLines(path: string, advice: string): CorpusLine[] {
  let content: string;
  try {
    content = readTextFile(path, "BAD_CORPUS");
  } catch (error) {
    if (error instanceof UsmLiteError && error.code === "FILE_NOT_FOUND") throw badCorpus(path, `does not exist; ${advice}`, error);
    throw error;
  }
  return content
    .split("\n")
    .map((line, index) => ({ text: line.trim(), source: `${path}:${index + 1}` }))
    .filter(({ text }) => text !== "");
}

/**
 * Names of the files and folders in `folder`, in an order that does not depend on the file system.
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE
 */
export function sortedNames(folder: string): string[] {
  try {
    return readdirSync(folder).sort();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOTDIR") {
      throw new UsmLiteError("FILE_UNREADABLE", `${folder} is a file; name the folder that the corpus unpacks to`, { cause: error });
    }
    throw unreadableFile(folder, error, "name the folder that the corpus unpacks to");
  }
}

/** The part of a corpus with an official split must be named: who trains on all of it has nothing left to measure with. */
export function requirePart(corpus: string, part: CorpusPart | undefined): CorpusPart {
  if (part) return part;
  throw new UsmLiteError("INVALID_ARGUMENT", `${corpus} has an official split; choose part train or test`);
}
