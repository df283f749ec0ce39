/** Ogg-Opus (RFC 7845), decoded by libopus compiled to WebAssembly. */
import { OpusDecoder, type OpusDecoderSampleRate } from "opus-decoder";
import type { ByteSource } from "./byte_source.js";
import { granulesBetween, oggPages, type OggPage } from "./ogg.js";
import { badAudio, freeQuietly, mixToMono, quietly, truncatedAudio, type DecodeRequest, type PcmStream } from "./pcm_stream.js";

// Positions in the file count samples at 48 kHz, whatever rate is decoded.
const granuleRate = 48000;
const decoderRates: readonly number[] = [8000, 12000, 16000, 24000, 48000];
const maximumPacketBytesPerChannel = 3840; // what the decoder's input buffer holds: 120 ms at 256 kbit/s
const maximumPacketSamples = 5760; // 120 ms

interface OpusHead {
  readonly channels: number;
  /** Samples at 48 kHz to drop at the start. */
  readonly preSkip: number;
  /** Factor on all samples. */
  readonly gain: number;
  readonly streamCount: number;
  readonly coupledStreamCount: number;
  readonly channelMappingTable: number[];
}

const beginsWith = (packet: Uint8Array, text: string): boolean =>
  packet.length >= text.length && [...text].every((letter, index) => packet[index] === letter.charCodeAt(0));

/** Whether an Ogg stream that begins with this packet is Opus. */
const isOpusHead = (packet: Uint8Array): boolean => beginsWith(packet, "OpusHead");

/** @throws UsmLiteError BAD_AUDIO from the stream's blocks */
export async function decodeOpus(source: ByteSource, request: DecodeRequest): Promise<PcmStream> {
  const sampleRate = decoderRates.includes(request.targetRate) ? request.targetRate : granuleRate;
  const granules = await granulesBetween(source);
  return {
    sampleRate,
    declaredSamples: granules === undefined ? undefined : Math.round((granules * sampleRate) / granuleRate),
    blocks: opusBlocks(source, sampleRate, request.allowTruncated),
  };
}

async function* opusBlocks(source: ByteSource, sampleRate: number, allowTruncated: boolean): AsyncGenerator<Float32Array> {
  let stream: OpusStream | undefined;
  let found = 0;
  try {
    for await (const page of oggPages(source, isOpusHead)) {
      if (page.first) {
        stream?.free();
        stream = new OpusStream(source.name, parseHead(source.name, page.packets[0] ?? new Uint8Array(0)), sampleRate);
      }
      const samples = await stream?.decode(page);
      if (samples && samples.length > 0) {
        found += samples.length;
        yield samples;
      }
      if (page.last) {
        stream?.free();
        stream = undefined;
      }
    }
    // Every stream ends with a page that says so.
    if ((stream !== undefined || found === 0) && !(allowTruncated && found > 0)) {
      throw truncatedAudio(source.name, "Ogg-Opus stream", found, sampleRate);
    }
  } finally {
    stream?.free();
  }
}

/** One logical stream; a file may hold several, one behind the other. */
class OpusStream {
  private tagsSeen = false;
  /** Position of the first decoded sample, at 48 kHz; known from the first page with audio. */
  private begin: number | undefined;
  /** Samples at 48 kHz decoded so far, those to drop included. */
  private decoded = 0;
  /** Samples at the decoder's rate given out or dropped so far. */
  private passed = 0;
  /** Made when there is something to decode: it takes ten milliseconds. */
  private decoder: OpusDecoder<OpusDecoderSampleRate> | undefined;

  constructor(
    private readonly name: string,
    private readonly head: OpusHead,
    private readonly sampleRate: number,
  ) {}

  /** Mono samples of the packets that end on `page`, without those before the start and behind the end. */
  async decode(page: OggPage): Promise<Float32Array | undefined> {
    let packets = page.packets;
    if (page.first) packets = packets.slice(1);
    if (!this.tagsSeen && packets.length > 0) {
      if (!beginsWith(packets[0] as Uint8Array, "OpusTags")) throw badAudio(this.name, "the Opus stream lacks its OpusTags packet");
      this.tagsSeen = true;
      packets = packets.slice(1);
    }
    if (packets.length === 0) return undefined;

    const duration = packets.reduce((sum, packet) => sum + this.packetSamples(packet), 0);
    // A recording that joined a running stream begins at a position above 0. On a last page the position may be lower
    // than the samples before it: that trims the end.
    this.begin ??= page.last ? 0 : Math.max(0, page.granule - duration);
    const { channelData, samplesDecoded, errors } = await this.decodePackets(packets);
    if (errors[0]) {
      throw badAudio(this.name, `an Opus packet near ${this.seconds()} s is damaged (${errors[0].message}); use an undamaged file`);
    }
    this.decoded += duration;
    const from = this.passed;
    this.passed += samplesDecoded;

    const atRate = (samples: number): number => Math.round((samples * this.sampleRate) / granuleRate);
    const begin = Math.max(atRate(this.head.preSkip) - from, 0);
    const end = page.last && page.granule >= 0 ? atRate(page.granule - this.begin) - from : samplesDecoded;
    const mono = mixToMono(channelData, Math.min(begin, samplesDecoded), Math.max(begin, Math.min(end, samplesDecoded)));
    return this.head.gain === 1 ? mono : mono.map((sample) => sample * this.head.gain);
  }

  free(): void {
    if (this.decoder) freeQuietly(this.decoder);
  }

  private async decodePackets(packets: readonly Uint8Array[]): Promise<ReturnType<OpusDecoder["decodeFrames"]>> {
    const { channels, streamCount, coupledStreamCount, channelMappingTable } = this.head;
    try {
      const decoder = (this.decoder ??= new OpusDecoder({
        sampleRate: this.sampleRate as OpusDecoderSampleRate,
        channels,
        streamCount,
        coupledStreamCount,
        channelMappingTable,
      }));
      await decoder.ready;
      return quietly(() => decoder.decodeFrames([...packets])) as ReturnType<OpusDecoder["decodeFrames"]>;
    } catch (error) {
      throw badAudio(this.name, `the Opus decoder failed near ${this.seconds()} s: ${String(error)}`, error);
    }
  }

  // RFC 6716, section 3.1: the first byte gives the length of a frame, the second (or itself) their number.
  private packetSamples(packet: Uint8Array): number {
    const [toc, count = 0] = packet;
    const limit = maximumPacketBytesPerChannel * this.head.channels;
    if (toc === undefined || packet.length > limit) {
      throw badAudio(this.name, `an Opus packet near ${this.seconds()} s has ${packet.length} bytes; 1 to ${limit} are possible`);
    }
    const configuration = toc >> 3;
    const frame =
      configuration < 12
        ? ([480, 960, 1920, 2880][configuration & 3] as number)
        : configuration < 16
          ? ([480, 960][configuration & 1] as number)
          : 120 << (configuration & 3);
    const frames = (toc & 3) === 0 ? 1 : (toc & 3) < 3 ? 2 : count & 63;
    if (frames === 0 || frame * frames > maximumPacketSamples) {
      throw badAudio(this.name, `an Opus packet near ${this.seconds()} s says it has ${frames} frames; 120 ms are the limit`);
    }
    return frame * frames;
  }

  private seconds(): string {
    return (this.decoded / granuleRate).toFixed(2);
  }
}

function parseHead(name: string, packet: Uint8Array): OpusHead {
  const fail = (sentence: string): never => {
    throw badAudio(name, `the Opus header ${sentence}`);
  };
  if (packet.length < 19) fail(`has ${packet.length} bytes; at least 19 are needed`);
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  if (view.getUint8(8) > 15) fail(`is of version ${view.getUint8(8)}; versions up to 15 are known`);
  const channels = view.getUint8(9);
  const family = view.getUint8(18);
  const head = {
    channels,
    preSkip: view.getUint16(10, true),
    gain: 10 ** (view.getInt16(16, true) / (20 * 256)),
  };
  if (channels === 0) fail("says that there are no channels");
  if (family === 0) {
    if (channels > 2) fail(`has ${channels} channels; mapping family 0 has 1 or 2`);
    return { ...head, streamCount: 1, coupledStreamCount: channels - 1, channelMappingTable: channels === 2 ? [0, 1] : [0] };
  }
  if (family !== 1 && family !== 255) fail(`has channel mapping family ${family}; 0, 1 and 255 are supported`);
  if (packet.length < 21 + channels) fail("ends within its channel mapping");
  const streamCount = view.getUint8(19);
  const coupledStreamCount = view.getUint8(20);
  const channelMappingTable = [...packet.subarray(21, 21 + channels)];
  const outputs = streamCount + coupledStreamCount;
  if (streamCount === 0 || coupledStreamCount > streamCount || outputs > 255) {
    fail(`has ${streamCount} streams of which ${coupledStreamCount} are stereo; that cannot be`);
  }
  if (channelMappingTable.some((index) => index !== 255 && index >= outputs)) fail("maps a channel to a stream that does not exist");
  return { ...head, streamCount, coupledStreamCount, channelMappingTable };
}
