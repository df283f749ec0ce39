/** What every decoder makes of a file. */
import { UsmLiteError } from "../errors.js";

/** Decoded audio in pieces. */
export interface PcmStream {
  /** Hz */
  readonly sampleRate: number;
  /** Samples per channel that the file says it holds, where it says so. */
  readonly declaredSamples: number | undefined;
  /** Mono (the mean of all channels), full scale 1. */
  readonly blocks: AsyncIterable<Float32Array>;
  /** Ends what still runs, whether or not the blocks were read. */
  close?(): void;
}

/** What a decoder is asked for. */
export interface DecodeRequest {
  /** The sampling rate wanted in the end, in Hz: a decoder that can give it directly does. */
  readonly targetRate: number;
  /** A file that ends early gives what it has instead of an error. */
  readonly allowTruncated: boolean;
}

/** A BAD_AUDIO error about the file `name`. */
export function badAudio(name: string, sentence: string, cause?: unknown): UsmLiteError {
  return new UsmLiteError("BAD_AUDIO", `${name}: ${sentence}`, cause === undefined ? undefined : { cause });
}

/** The error for audio without a single sample. */
export const emptyAudio = (name: string): UsmLiteError => badAudio(name, "holds no samples; give a file with audio in it");

/** The error for a file that ends in the middle; `found` counts samples per channel. */
export function truncatedAudio(name: string, what: string, found: number, sampleRate: number): UsmLiteError {
  const seconds = (found / sampleRate).toFixed(2);
  return badAudio(
    name,
    `the ${what} ends too early: ${found} samples (${seconds} s) were found; ` +
      `use the complete file (decodeAudio has allowTruncated to take what is there)`,
  );
}

/** The mean of `channels`, each of which must have `length` samples or more. */
export function mixToMono(channels: readonly Float32Array[], begin: number, end: number): Float32Array {
  if (channels.length === 1) return (channels[0] as Float32Array).subarray(begin, end);
  const mono = new Float32Array(end - begin);
  for (let i = 0; i < mono.length; i++) {
    let sum = 0;
    for (const channel of channels) sum += channel[begin + i] as number;
    mono[i] = sum / channels.length;
  }
  return mono;
}

/** WebAssembly decoders also write to the console what they return as errors: a line for each damaged packet, among those of our log. */
export function quietly<Result>(decode: () => Result): Result {
  const { error } = console;
  console.error = () => undefined;
  try {
    return decode();
  } finally {
    console.error = error;
  }
}

/**
 * Frees a WebAssembly decoder. Damaged packets can leave its heap in disorder, so that this fails; the heap is the
 * decoder's own and goes with it.
 */
export function freeQuietly(decoder: { free(): void }): void {
  try {
    decoder.free();
  } catch {
    // nothing else refers to it
  }
}
