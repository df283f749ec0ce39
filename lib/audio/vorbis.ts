/** Ogg-Vorbis, decoded by libvorbis compiled to WebAssembly. */
import { OggVorbisDecoder, type OggVorbisDecodedAudio } from "@wasm-audio-decoders/ogg-vorbis";
import type { ByteSource } from "./byte_source.js";
import { granulesBetween, oggPages } from "./ogg.js";
import { badAudio, freeQuietly, mixToMono, truncatedAudio, type DecodeRequest, type PcmStream } from "./pcm_stream.js";

const maximumChannels = 8;

/** Whether an Ogg stream that begins with this packet is Vorbis. */
const isVorbisHead = (packet: Uint8Array): boolean =>
  packet.length >= 30 && Buffer.from(packet.buffer, packet.byteOffset, 7).toString("latin1") === "\x01vorbis";

/** @throws UsmLiteError BAD_AUDIO, here and from the stream's blocks */
export async function decodeVorbis(source: ByteSource, request: DecodeRequest): Promise<PcmStream> {
  const granules = await granulesBetween(source);
  // The identification header follows the first page's 28 bytes.
  const head = (await source.peek(28 + 30)).subarray(28);
  if (!isVorbisHead(head)) throw truncatedAudio(source.name, "Ogg-Vorbis stream", 0, 1);
  const sampleRate = new DataView(head.buffer, head.byteOffset, head.length).getUint32(12, true);
  const channels = head[11] as number;
  if (sampleRate === 0 || channels === 0 || channels > maximumChannels) {
    throw badAudio(
      source.name,
      `its Vorbis header says ${channels} channels at ${sampleRate} Hz; 1 to ${maximumChannels} channels are possible`,
    );
  }
  return {
    sampleRate,
    declaredSamples: granules,
    blocks: vorbisBlocks(source, sampleRate, request.allowTruncated),
  };
}

async function* vorbisBlocks(source: ByteSource, sampleRate: number, allowTruncated: boolean): AsyncGenerator<Float32Array> {
  let found = 0;
  let complete = false;
  const decoder = new OggVorbisDecoder();
  const mono = (decoded: OggVorbisDecodedAudio): Float32Array => {
    if (decoded.errors[0]) {
      throw badAudio(source.name, `a Vorbis packet is damaged (${decoded.errors[0].message}); use an undamaged file`);
    }
    if (decoded.samplesDecoded === 0) return new Float32Array(0);
    if (decoded.sampleRate !== sampleRate) {
      throw badAudio(source.name, `the sampling rate changes from ${sampleRate} to ${decoded.sampleRate} Hz`);
    }
    found += decoded.samplesDecoded;
    return mixToMono(decoded.channelData, 0, decoded.samplesDecoded);
  };
  try {
    await decoder.ready;
    for await (const page of oggPages(source, isVorbisHead)) {
      complete = page.last;
      const samples = mono(await decode(source, () => decoder.decode(page.bytes)));
      if (samples.length > 0) yield samples;
      if (!page.last) continue;
      const rest = mono(await decode(source, () => decoder.flush())); // makes it ready for a chained stream, too
      if (rest.length > 0) yield rest;
    }
    if (!complete) {
      if (!allowTruncated || found === 0) throw truncatedAudio(source.name, "Ogg-Vorbis stream", found, sampleRate);
      const rest = mono(await decode(source, () => decoder.flush()));
      if (rest.length > 0) yield rest;
    }
  } finally {
    freeQuietly(decoder);
  }
}

async function decode<Result>(source: ByteSource, body: () => Result | Promise<Result>): Promise<Result> {
  try {
    return await body();
  } catch (error) {
    throw badAudio(source.name, `the Vorbis decoder failed (${String(error)}); use an undamaged file`, error);
  }
}
