/** The Ogg container (RFC 3533): pages and the packets in them. */
import { ByteSource } from "./byte_source.js";
import { badAudio } from "./pcm_stream.js";

const pageHeaderBytes = 27;
const maximumPageBytes = pageHeaderBytes + 255 + 255 * 255;
const maximumPacketBytes = 1 << 24;
/** One behind the other, as of radio that changes its song; each costs a decoder, however short it is. */
const maximumStreams = 256;
const capturePattern = 0x4f676753; // "OggS"

/** The packets that end on one page of the logical stream that is read. */
export interface OggPage {
  readonly packets: readonly Uint8Array[];
  /** The whole page as it is in the file. */
  readonly bytes: Uint8Array;
  /** Codec-defined position of the last packet that ends here; -1 when none does. */
  readonly granule: number;
  readonly first: boolean;
  readonly last: boolean;
}

interface RawPage {
  readonly flags: number;
  readonly granule: number;
  readonly serial: number;
  readonly sequence: number;
  /** Lengths of the packets' pieces, and whether the last one goes on in the next page. */
  readonly lengths: readonly number[];
  readonly unfinished: boolean;
  readonly body: Uint8Array;
  readonly bytes: Uint8Array;
}

/**
 * Pages of the first logical stream whose first packet `accept` takes, and of streams of that kind chained behind it.
 * Ends without a page marked `last` when the file does.
 *
 * @throws UsmLiteError BAD_AUDIO for damaged or missing pages
 */
export async function* oggPages(source: ByteSource, accept: (firstPacket: Uint8Array) => boolean): AsyncGenerator<OggPage> {
  let serial: number | undefined;
  let sequence = 0;
  let streams = 0;
  let pieces: Uint8Array[] = [];
  for (let raw; (raw = await readPage(source)) !== undefined;) {
    const first = (raw.flags & 2) !== 0;
    const packets = packetsOf(raw);
    if (first && serial === undefined && packets[0] && accept(packets[0])) {
      if (++streams > maximumStreams)
        throw badAudio(source.name, `holds more than ${maximumStreams} Ogg streams one behind the other; split it`);
      serial = raw.serial;
      sequence = raw.sequence;
      pieces = [];
    }
    if (raw.serial !== serial) continue; // another stream beside ours
    if (raw.sequence !== sequence) {
      throw badAudio(source.name, `page ${sequence} of the Ogg stream is missing; use an undamaged file`);
    }
    sequence = (sequence + 1) >>> 0;

    // The first piece continues what the previous page left unfinished; the last may go on in the next.
    const whole: Uint8Array[] = [];
    packets.forEach((piece, index) => {
      if (index === 0 && (raw.flags & 1) === 0) pieces = [];
      const orphan = index === 0 && (raw.flags & 1) !== 0 && pieces.length === 0;
      pieces.push(piece);
      if (pieces.reduce((sum, each) => sum + each.length, 0) > maximumPacketBytes) {
        throw badAudio(source.name, "an Ogg packet is larger than 16 MB; this is no audio");
      }
      if (index === packets.length - 1 && raw.unfinished) return;
      if (!orphan) whole.push(pieces.length === 1 ? piece : Buffer.concat(pieces));
      pieces = [];
    });
    const last = (raw.flags & 4) !== 0;
    yield { packets: whole, bytes: raw.bytes, granule: raw.granule, first, last };
    if (last) serial = undefined;
  }
}

/**
 * How many positions lie between the first page with audio and the end of the last page, where that can be told without reading all between.
 * What was captured from a running stream, such as radio, does not begin at 0.
 */
export async function granulesBetween(source: ByteSource): Promise<number | undefined> {
  const last = await lastGranule(source);
  if (last === undefined) return undefined;
  const head = await source.peek(2 * maximumPageBytes);
  const view = new DataView(head.buffer, head.byteOffset, head.length);
  for (let at = 0; at + pageHeaderBytes <= head.length && view.getUint32(at) === capturePattern;) {
    const granule = granuleAt(view, at + 6);
    if (granule > 0) return last >= granule ? last - granule : undefined; // otherwise another stream began in between
    const segments = head[at + 26] as number;
    at = head
      .subarray(at + pageHeaderBytes, at + pageHeaderBytes + segments)
      .reduce((sum, length) => sum + length, at + pageHeaderBytes + segments);
  }
  return undefined;
}

async function lastGranule(source: ByteSource): Promise<number | undefined> {
  const tail = await source.tail(maximumPageBytes);
  if (!tail) return undefined;
  const view = new DataView(tail.buffer, tail.byteOffset, tail.length);
  for (let at = tail.length - pageHeaderBytes; at >= 0; at--) {
    if (view.getUint32(at) === capturePattern && ((tail[at + 5] as number) & 4) !== 0) return granuleAt(view, at + 6);
  }
  return undefined;
}

async function readPage(source: ByteSource): Promise<RawPage | undefined> {
  const header = await source.peek(pageHeaderBytes);
  if (header.length < pageHeaderBytes) return undefined;
  const view = new DataView(header.buffer, header.byteOffset, header.length);
  if (view.getUint32(0) !== capturePattern || view.getUint8(4) !== 0) {
    throw badAudio(source.name, `no Ogg page begins at byte ${source.position}; use an undamaged file`);
  }
  const segments = view.getUint8(26);
  const table = (await source.peek(pageHeaderBytes + segments)).subarray(pageHeaderBytes);
  const bodyBytes = table.reduce((sum, length) => sum + length, 0);
  const size = pageHeaderBytes + segments + bodyBytes;
  const begin = source.position;
  const page = await source.take(size);
  if (page.length < size) return undefined; // the file ends within this page
  const stored = view.getUint32(22, true);
  if (pageChecksum(page) !== stored) {
    throw badAudio(source.name, `the Ogg page at byte ${begin} is damaged (wrong checksum); use an undamaged file`);
  }
  const lengths: number[] = [];
  let length = 0;
  table.forEach((lacing, index) => {
    length += lacing;
    if (lacing === 255 && index < segments - 1) return;
    lengths.push(length);
    length = 0;
  });
  return {
    flags: view.getUint8(5),
    granule: granuleAt(view, 6),
    serial: view.getUint32(14, true),
    sequence: view.getUint32(18, true),
    lengths,
    unfinished: segments > 0 && table[segments - 1] === 255,
    body: page.subarray(pageHeaderBytes + segments),
    bytes: page,
  };
}

function packetsOf(page: RawPage): Uint8Array[] {
  let begin = 0;
  return page.lengths.map((length) => page.body.subarray(begin, (begin += length)));
}

// Positions beyond 2^53 samples are nonsense and become -1, "none".
function granuleAt(view: DataView, at: number): number {
  const granule = view.getBigInt64(at, true);
  return granule >= 0n && granule <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(granule) : -1;
}

// CRC-32 with polynomial 0x04c11db7, neither reflected nor inverted; the checksum's own four bytes count as zeros.
const checksumTable = Uint32Array.from({ length: 256 }, (_, index) => {
  let remainder = index << 24;
  for (let bit = 0; bit < 8; bit++) remainder = (remainder << 1) ^ (remainder < 0 ? 0x04c11db7 : 0);
  return remainder;
});

function pageChecksum(page: Uint8Array): number {
  let checksum = 0;
  for (let i = 0; i < page.length; i++) {
    const byte = i >= 22 && i < 26 ? 0 : (page[i] as number);
    checksum = (checksum << 8) ^ (checksumTable[(checksum >>> 24) ^ byte] as number);
  }
  return checksum >>> 0;
}
