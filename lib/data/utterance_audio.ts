/** The samples of an utterance of a manifest. */
import { decodeAudio } from "../audio/decode.js";
import { UsmLiteError } from "../errors.js";
import type { Utterance } from "./manifest.js";

/**
 * Of the samples of a file, those that `offset` and `duration` name; all of them without an offset.
 * @param rate samples a second
 * @throws UsmLiteError BAD_MANIFEST, naming manifest line, when they reach beyond the end by more than a tenth of a second
 */
export function utteranceOf(
  { offset, duration, source }: Pick<Utterance, "duration" | "source"> & { readonly offset?: number | undefined },
  samples: Float32Array,
  rate: number,
): Float32Array {
  if (offset === undefined) return samples;
  const begin = Math.round(offset * rate);
  const end = begin + Math.round(duration * rate);
  if (end > samples.length + rate / 10) {
    throw new UsmLiteError(
      "BAD_MANIFEST",
      `${source}: offset ${offset} and duration ${duration} reach beyond the end of the audio, ${(samples.length / rate).toFixed(2)} s`,
    );
  }
  return samples.subarray(begin, end);
}

/**
 * Mono samples at 16 kHz; of a longer recording, the part that `offset` and `duration` name.
 * @throws UsmLiteError errors of audio files, naming manifest line and file; as {@link utteranceOf}
 */
export async function readUtterance(utterance: Utterance): Promise<Float32Array> {
  const { samples, sampleRate } = await decodeAudio(utterance.audioPath).catch((cause: unknown) => {
    if (!(cause instanceof UsmLiteError)) throw cause;
    throw new UsmLiteError(cause.code, `${utterance.source}: ${cause.message}`, { cause });
  });
  return utteranceOf(utterance, samples, sampleRate);
}
