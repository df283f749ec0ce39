/** NeMo manifests: one JSON object per line, one utterance each. */
import { existsSync } from "node:fs";
import { dirname, relative, resolve, sep } from "node:path";
import { z } from "zod";
import { writeTextFile } from "../checkpoint/atomic_file.js";
import { problemOf } from "../checkpoint/checked_value.js";
import { readTextFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { normalizeText } from "../text/normalize.js";

/** One utterance of a manifest. */
export interface Utterance {
  /** Path of the audio file, absolute. */
  readonly audioPath: string;
  /** Seconds. */
  readonly duration: number;
  /** Transcript; may be empty. */
  readonly text: string;
  /** Seconds into the file at which the utterance begins; absent: it is the whole file. */
  readonly offset?: number;
  readonly speaker?: string;
  /** Which corpus it comes from. */
  readonly dataset?: string;
  /** "FILE:LINE", for messages. */
  readonly source: string;
}

const example = '{"audio_filepath": "clip.wav", "duration": 1.5, "text": "HELLO"}';

const lineSchema = z.looseObject({
  audio_filepath: z.string().min(1),
  duration: z.number().positive(),
  text: z.string(),
  offset: z.number().nonnegative().nullish(),
  speaker: z.union([z.string(), z.number()]).nullish(),
  dataset: z.string().nullish(),
});

/**
 * Reads a manifest. `audio_filepath` is relative to the manifest's folder; unknown keys and empty lines are ignored.
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE; BAD_MANIFEST naming file and line when a line is no JSON object,
 *   lacks a key or has one of another type, when an audio file does not exist, or when there is no utterance at all
 *
 * @example
 * const utterances = readManifest("train.jsonl");
 * const hours = utterances.reduce((sum, { duration }) => sum + duration, 0) / 3600;
 */
export function readManifest(path: string): Utterance[] {
  const utterances: Utterance[] = [];
  const existing = new Set<string>();
  readTextFile(path, "BAD_MANIFEST", "name a manifest; docs/training.md shows its lines, usm-lite manifest writes those of corpora")
    .split("\n")
    .forEach((line, index) => {
      if (line.trim() === "") return;
      const source = `${path}:${index + 1}`;
      const utterance = parseLine(line, source, dirname(path));
      if (!existing.has(utterance.audioPath)) {
        if (!existsSync(utterance.audioPath)) {
          throw new UsmLiteError(
            "BAD_MANIFEST",
            `${source}: audio file ${utterance.audioPath} does not exist; audio_filepath is relative to the manifest's folder`,
          );
        }
        existing.add(utterance.audioPath);
      }
      utterances.push(utterance);
    });
  if (utterances.length === 0) {
    throw new UsmLiteError("BAD_MANIFEST", `${path} holds no utterance; each line must be an object such as ${example}`);
  }
  return utterances;
}

/**
 * Writes a manifest that {@link readManifest} reads, whole or not at all. Audio below the manifest's folder is named
 * relative to it, so that the folder can be moved; other audio by its absolute path.
 * @throws UsmLiteError FILE_UNWRITABLE
 *
 * @example
 * writeManifest("held-out.jsonl", readManifest("train.jsonl").filter(({ speaker }) => speaker === "ann"));
 */
export function writeManifest(path: string, utterances: readonly Utterance[]): void {
  const folder = resolve(dirname(path));
  const lines = utterances.map(({ audioPath, duration, text, offset, speaker, dataset }) => {
    const below = relative(folder, audioPath);
    const outside = below === ".." || below.startsWith(`..${sep}`);
    const audio_filepath = outside ? resolve(audioPath) : below;
    return `${JSON.stringify({ audio_filepath, duration, text, offset, speaker, dataset })}\n`;
  });
  writeTextFile(path, lines.join(""));
}

function parseLine(line: string, source: string, folder: string): Utterance {
  const fail = (problem: string, cause?: unknown): never => {
    throw new UsmLiteError("BAD_MANIFEST", `${source}: ${problem}; a line must be an object such as ${example}`, { cause });
  };
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    fail(`is not JSON (${(cause as Error).message})`, cause);
  }
  const result = lineSchema.safeParse(value);
  if (!result.success) {
    const issue = result.error.issues[0];
    return fail(issue?.path.length ? `key "${issue.path.join(".")}": ${problemOf(issue)}` : "is not a JSON object");
  }
  const { audio_filepath, duration, text, offset, speaker, dataset } = result.data;
  return {
    audioPath: resolve(folder, audio_filepath),
    duration,
    text,
    ...(offset === undefined || offset === null ? {} : { offset }),
    ...(speaker === undefined || speaker === null ? {} : { speaker: String(speaker) }),
    ...(dataset === undefined || dataset === null ? {} : { dataset }),
    source,
  };
}

/** Whether a transcript has words to learn from or to be judged by. */
export const hasWords = ({ text }: Pick<Utterance, "text">): boolean => normalizeText(text) !== "";
