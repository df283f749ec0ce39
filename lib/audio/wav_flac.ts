/** WAV and FLAC, decoded natively. */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import type { ByteSource } from "./byte_source.js";
import { badAudio, emptyAudio, type DecodeRequest, type PcmStream } from "./pcm_stream.js";

/** A native decoder. */
type DecoderHandle = object;

interface DecoderBindings {
  audioDecoderCreate(format: "wav" | "flac", fileBytes: number, allowTruncated: boolean): DecoderHandle;
  audioDecoderPush(decoder: DecoderHandle, bytes: Uint8Array): void;
  audioDecoderEnd(decoder: DecoderHandle): void;
  audioDecoderNext(decoder: DecoderHandle): Float32Array;
  audioDecoderInfo(decoder: DecoderHandle): { sampleRate: number; declaredSamples: number; unsupported: string } | undefined;
}

const native = addon as DecoderBindings;

/**
 * Reads the header. The result is a text naming the coding when the file is valid but of a coding that is not decoded
 * here.
 *
 * @throws UsmLiteError BAD_AUDIO, here and from the stream's blocks
 */
export async function decodeWavOrFlac(source: ByteSource, format: "wav" | "flac", request: DecodeRequest): Promise<PcmStream | string> {
  const decoder = native.audioDecoderCreate(format, source.size ?? -1, request.allowTruncated);
  const blocks = decodedBlocks(source, decoder);
  // The header is read by the time the first samples are there.
  const first = await blocks.next();
  const info = native.audioDecoderInfo(decoder);
  if (!info) throw emptyAudio(source.name);
  if (info.unsupported !== "") return info.unsupported;
  return {
    sampleRate: info.sampleRate,
    declaredSamples: info.declaredSamples < 0 ? undefined : info.declaredSamples,
    blocks: (async function* () {
      if (!first.done) yield first.value;
      yield* blocks;
    })(),
  };
}

/**
 * Seconds that the header declares, read no further than it; undefined when the header does not say so, or when the
 * coding is not decoded here. A WAV file shorter than its header says is an error, a FLAC file is not looked through.
 *
 * @throws UsmLiteError BAD_AUDIO
 */
export async function declaredSeconds(source: ByteSource, format: "wav" | "flac"): Promise<number | undefined> {
  const decoder = native.audioDecoderCreate(format, source.size ?? -1, false);
  for (;;) {
    const bytes = await source.takeBlock();
    if (bytes.length === 0) native.audioDecoderEnd(decoder);
    else native.audioDecoderPush(decoder, bytes);
    nextSamples(source.name, decoder);
    const info = native.audioDecoderInfo(decoder);
    if (info) return info.unsupported !== "" || info.declaredSamples < 0 ? undefined : info.declaredSamples / info.sampleRate;
  }
}

async function* decodedBlocks(source: ByteSource, decoder: DecoderHandle): AsyncGenerator<Float32Array> {
  for (let ended = false; !ended;) {
    const bytes = await source.takeBlock();
    ended = bytes.length === 0;
    if (ended) native.audioDecoderEnd(decoder);
    else native.audioDecoderPush(decoder, bytes);
    for (let samples; (samples = nextSamples(source.name, decoder)).length > 0;) yield samples;
    if (native.audioDecoderInfo(decoder)?.unsupported) return;
  }
}

function nextSamples(name: string, decoder: DecoderHandle): Float32Array {
  try {
    return native.audioDecoderNext(decoder);
  } catch (error) {
    if (error instanceof UsmLiteError && error.code === "BAD_AUDIO") throw badAudio(name, error.message, error);
    throw error;
  }
}
