/** From an audio file of any common format to mono samples at the rate a model wants. */
import { UsmLiteError } from "../errors.js";
import { ByteSource } from "./byte_source.js";
import { detectFormat } from "./container.js";
import { decodeWithFfmpeg } from "./ffmpeg.js";
import { badAudio, emptyAudio, type DecodeRequest, type PcmStream } from "./pcm_stream.js";
import { StreamResampler } from "./resample.js";
import { decodeWavOrFlac } from "./wav_flac.js";

/** Two hours: 460 MB of samples at 16 kHz. */
const defaultMaximumSeconds = 7200;

// What a header says may be false: beyond this, memory is taken as samples come.
const maximumReserved = 1 << 26;

/** What {@link decodeAudio} and {@link readAudio} may be told. */
export interface DecodeOptions {
  /** Sampling rate of the result in Hz; 16000 when absent. */
  readonly targetRate?: number | undefined;
  /** Longer audio is an `AUDIO_TOO_LONG` error; {@link defaultMaximumSeconds} when absent. */
  readonly maximumSeconds?: number | undefined;
  /** Take what a file holds that ends too early, instead of a `BAD_AUDIO` error. */
  readonly allowTruncated?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** Samples of a whole recording. */
export interface DecodedAudio {
  /** Mono (the mean of all channels), full scale 1. */
  readonly samples: Float32Array;
  /** Hz */
  readonly sampleRate: number;
  readonly durationSeconds: number;
}

/**
 * Decodes a whole file (or its bytes). The format is recognized by its content. Decoding computes in the calling
 * thread; a server calls this from a worker.
 *
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_AUDIO (empty, truncated, damaged, not audio),
 * AUDIO_TOO_LONG, ABORTED, INVALID_ARGUMENT
 *
 * @example
 * const { samples } = await decodeAudio("speech.flac"); // mono, 16 kHz
 */
export async function decodeAudio(input: string | Uint8Array, options: DecodeOptions = {}): Promise<DecodedAudio> {
  const { targetRate = 16000, maximumSeconds = defaultMaximumSeconds } = options;
  let samples: Float32Array = new Float32Array(0);
  let count = 0;
  const expect = (expected: number): void => {
    samples = new Float32Array(Math.min(expected, maximumReserved));
  };
  for await (const piece of pieces(input, { ...options, targetRate, maximumSeconds }, expect)) {
    if (count + piece.length > samples.length) {
      const larger = new Float32Array(Math.max(count + piece.length, Math.ceil(samples.length * 1.5)));
      larger.set(samples.subarray(0, count));
      samples = larger;
    }
    samples.set(piece, count);
    count += piece.length;
  }
  return {
    samples: samples.length === count ? samples : samples.slice(0, count),
    sampleRate: targetRate,
    durationSeconds: count / targetRate,
  };
}

/**
 * The samples of {@link decodeAudio} piece by piece (of no particular length), for audio of any length: what is held
 * in memory does not grow with it. `maximumSeconds` is unlimited when absent.
 *
 * @throws UsmLiteError as {@link decodeAudio}, possibly after some pieces
 *
 * @example
 * let seconds = 0;
 * for await (const samples of readAudio("speech.flac")) seconds += samples.length / 16_000;
 */
export function readAudio(input: string | Uint8Array, options: DecodeOptions = {}): AsyncGenerator<Float32Array> {
  return pieces(input, options, () => undefined);
}

/** Calls `expect` with the number of samples that are likely to come, when the file says so. */
async function* pieces(
  input: string | Uint8Array,
  options: DecodeOptions,
  expect: (samples: number) => void,
): AsyncGenerator<Float32Array> {
  const { targetRate = 16000, maximumSeconds = Infinity, allowTruncated = false, signal } = options;
  if (!Number.isInteger(targetRate) || targetRate < 1 || targetRate > 1_000_000) {
    throw new UsmLiteError("INVALID_ARGUMENT", `targetRate is ${targetRate}; it must be a whole number from 1 to 1000000 Hz`);
  }
  if (!(maximumSeconds > 0)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `maximumSeconds is ${maximumSeconds}; it must be above 0`);
  }
  const source = await ByteSource.open(input, signal);
  let stream: PcmStream | undefined;
  try {
    stream = await openStream(source, { targetRate, allowTruncated });
    const tooLong = (seconds: number): UsmLiteError =>
      new UsmLiteError(
        "AUDIO_TOO_LONG",
        `${source.name} holds ${seconds.toFixed(1)} s of audio, at most ${Number(maximumSeconds.toPrecision(6))} s are allowed; ` +
          `raise maximumSeconds (usm-lite transcribe: --max-hours)`,
      );
    const declaredSeconds = (stream.declaredSamples ?? 0) / stream.sampleRate;
    // Half a second of grace: what a header says may count samples that are trimmed.
    if (declaredSeconds > maximumSeconds + 0.5) throw tooLong(declaredSeconds);
    if (declaredSeconds > 0) expect(Math.round(declaredSeconds * targetRate));

    const resampler = stream.sampleRate === targetRate ? undefined : resamplerFor(source.name, stream.sampleRate, targetRate);
    let received = 0;
    for await (const block of stream.blocks) {
      checkFinite(source.name, block, received);
      received += block.length;
      if (received > maximumSeconds * stream.sampleRate) throw tooLong(received / stream.sampleRate);
      const piece = resampler ? resampler.push(block) : block;
      if (piece.length > 0) yield piece;
    }
    if (received === 0) throw emptyAudio(source.name);
    const rest = resampler?.finish();
    if (rest && rest.length > 0) yield rest;
  } finally {
    stream?.close?.();
    await source.close();
  }
}

// Float files and damaged compressed ones can hold what no arithmetic survives.
function checkFinite(name: string, block: Float32Array, begin: number): void {
  for (let i = 0; i < block.length; i++) {
    if (!Number.isFinite(block[i])) {
      throw badAudio(name, `sample ${begin + i} is ${block[i]}; samples must be finite numbers, -1 to 1 being full scale`);
    }
  }
}

function resamplerFor(name: string, fromRate: number, toRate: number): StreamResampler {
  try {
    return new StreamResampler(fromRate, toRate);
  } catch (error) {
    throw badAudio(name, `its sampling rate of ${fromRate} Hz cannot be converted to ${toRate} Hz: ${(error as Error).message}`, error);
  }
}

async function openStream(source: ByteSource, request: DecodeRequest): Promise<PcmStream> {
  const format = await detectFormat(source);
  // The decoders are loaded when first needed: compiling one takes longer than decoding a short clip.
  switch (format) {
    case "wav":
    case "flac": {
      const stream = await decodeWavOrFlac(source, format, request);
      return typeof stream === "string" ? decodeWithFfmpeg(source, stream, request) : stream;
    }
    case "ogg-opus":
      return (await import("./opus.js")).decodeOpus(source, request);
    case "ogg-vorbis":
      return (await import("./vorbis.js")).decodeVorbis(source, request);
    case "mp3":
      return (await import("./mp3.js")).decodeMp3(source, request);
    case undefined:
      if ((await source.peek(1)).length === 0) throw badAudio(source.name, "is empty; give a file with audio in it");
      return decodeWithFfmpeg(source, "not audio in a format known here", request);
  }
}
