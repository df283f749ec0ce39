/** The samples of utterances of a manifest. */
import { decodeAudio, readAudio } from "../audio/decode.js";
import { concatenate } from "../audio/sample_blocks.js";
import { UsmLiteError } from "../errors.js";
import type { Utterance } from "./manifest.js";

type Segment = Pick<Utterance, "duration" | "source"> & { readonly offset?: number | undefined };

/**
 * Of the samples of a file, those that `offset` and `duration` name; all of them without an offset.
 * @param rate samples a second
 * @throws UsmLiteError BAD_MANIFEST, naming manifest line, when they reach beyond the end by more than a tenth of a second
 */
export function utteranceOf(segment: Segment, samples: Float32Array, rate: number): Float32Array {
  if (segment.offset === undefined) return samples;
  const { begin, end } = rangeOf(segment, segment.offset, rate);
  checkEnd(segment, end, samples.length, rate);
  return samples.subarray(begin, end);
}

/**
 * Mono samples; of a longer recording, the part that `offset` and `duration` name.
 * @param rate samples a second: that of the model that hears them
 * @throws UsmLiteError errors of audio files, naming manifest line and file; as {@link utteranceOf}
 */
export async function readUtterance(utterance: Utterance, rate: number): Promise<Float32Array> {
  const [samples] = await readUtterances([utterance], rate);
  return samples as Float32Array;
}

/** The same of several utterances. A file is decoded once for all that lie in it, and no more of it is held than they are. */
export async function readUtterances(utterances: readonly Utterance[], rate: number): Promise<Float32Array[]> {
  const files = new Map<string, Utterance[]>();
  for (const utterance of utterances) {
    const { audioPath } = utterance;
    files.set(audioPath, [...(files.get(audioPath) ?? []), utterance]);
  }
  const read = new Map<Utterance, Float32Array>();
  const reading = [...files].map(async ([path, inFile]) => {
    const samples = await samplesOf(path, inFile, rate).catch((cause: unknown) => {
      if (!(cause instanceof UsmLiteError) || cause.code === "BAD_MANIFEST") throw cause;
      throw new UsmLiteError(cause.code, `${inFile[0]?.source}: ${cause.message}`, { cause });
    });
    inFile.forEach((utterance, index) => read.set(utterance, samples[index] as Float32Array));
  });
  await Promise.all(reading);
  return utterances.map((utterance) => read.get(utterance) as Float32Array);
}

async function samplesOf(path: string, utterances: readonly Utterance[], rate: number): Promise<Float32Array[]> {
  const ranges = utterances.flatMap(({ duration, offset }) => (offset === undefined ? [] : [rangeOf({ duration }, offset, rate)]));
  if (ranges.length < utterances.length) {
    const { samples } = await decodeAudio(path, { targetRate: rate });
    return utterances.map((utterance) => utteranceOf(utterance, samples, rate));
  }
  const parts = ranges.map((): Float32Array[] => []);
  const last = Math.max(...ranges.map(({ end }) => end));
  let done = 0;
  for await (const piece of readAudio(path, { targetRate: rate })) {
    ranges.forEach(({ begin, end }, index) => {
      const heard = piece.slice(Math.max(0, begin - done), Math.max(0, end - done)); // a copy: the rest of the piece is not held
      if (heard.length > 0) parts[index]?.push(heard);
    });
    done += piece.length;
    if (done >= last) break;
  }
  utterances.forEach((utterance, index) => checkEnd(utterance, ranges[index]?.end as number, done, rate));
  return parts.map(concatenate);
}

function rangeOf({ duration }: Pick<Segment, "duration">, offset: number, rate: number): { begin: number; end: number } {
  const begin = Math.round(offset * rate);
  return { begin, end: begin + Math.round(duration * rate) };
}

function checkEnd({ offset, duration, source }: Segment, end: number, length: number, rate: number): void {
  if (end <= length + rate / 10) return;
  throw new UsmLiteError(
    "BAD_MANIFEST",
    `${source}: offset ${offset} and duration ${duration} reach beyond the end of the audio, ${(length / rate).toFixed(2)} s`,
  );
}
