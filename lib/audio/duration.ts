/** How long an audio file lasts, from its header where that says so. */
import { ByteSource } from "./byte_source.js";
import { detectFormat } from "./container.js";
import { readAudio } from "./decode.js";
import { emptyAudio } from "./pcm_stream.js";
import { declaredSeconds } from "./wav_flac.js";

const headerBytes = 1 << 12; // most headers fit into one read of this size
const countingRate = 16000; // Hz

/**
 * Seconds of audio in a file. WAV and FLAC headers are believed without decoding the rest; other formats are decoded.
 *
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_AUDIO (empty, damaged header, WAV shorter than it says)
 *
 * @example
 * await audioDuration("speech.flac"); // seconds
 */
export async function audioDuration(path: string): Promise<number> {
  const seconds = (await headerSeconds(path)) ?? (await decodedSeconds(path));
  if (seconds === 0) throw emptyAudio(path);
  return seconds;
}

async function headerSeconds(path: string): Promise<number | undefined> {
  await using source = await ByteSource.open(path, undefined, headerBytes);
  const format = await detectFormat(source);
  // Awaited here: the file is closed on return.
  return format === "wav" || format === "flac" ? await declaredSeconds(source, format) : undefined;
}

async function decodedSeconds(path: string): Promise<number> {
  let samples = 0;
  for await (const piece of readAudio(path, { targetRate: countingRate })) samples += piece.length;
  return samples / countingRate;
}
