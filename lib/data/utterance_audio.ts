/** The samples of an utterance of a manifest. */
import { decodeAudio } from "../audio/decode.js";
import { UsmLiteError } from "../errors.js";
import type { Utterance } from "./manifest.js";

/**
 * Mono samples at 16 kHz; of a longer recording, the part that `offset` and `duration` name.
 * @throws UsmLiteError errors of audio files, naming manifest line and file
 */
export async function readUtterance(utterance: Utterance): Promise<Float32Array> {
  const { samples, sampleRate } = await decodeAudio(utterance.audioPath).catch((cause: unknown) => {
    if (!(cause instanceof UsmLiteError)) throw cause;
    throw new UsmLiteError(cause.code, `${utterance.source}: ${cause.message}`, { cause });
  });
  const begin = Math.round((utterance.offset ?? 0) * sampleRate);
  return utterance.offset === undefined ? samples : samples.subarray(begin, begin + Math.round(utterance.duration * sampleRate));
}
