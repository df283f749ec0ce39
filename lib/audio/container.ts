/** Which format a file has, by its first bytes; names and extensions are not trusted. */
import type { ByteSource } from "./byte_source.js";
import { mp3FrameHeader } from "./mp3_frame.js";

export type AudioFormat = "wav" | "flac" | "ogg-opus" | "ogg-vorbis" | "mp3";

const text = (bytes: Uint8Array, begin: number, end: number): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("latin1", begin, end);

/** Bytes of the ID3v2 tag at the start, 0 when there is none. Its size has 7 bits per byte. */
export function id3Bytes(start: Uint8Array): number {
  if (start.length < 10 || text(start, 0, 3) !== "ID3") return 0;
  const size = start.subarray(6, 10).reduce((sum, byte) => sum * 128 + (byte & 127), 0);
  const footer = ((start[5] as number) & 0x10) !== 0 ? 10 : 0;
  return 10 + size + footer;
}

/** The format of what `source` holds, or undefined for one that has no decoder here. Takes no bytes. */
export async function detectFormat(source: ByteSource): Promise<AudioFormat | undefined> {
  const start = await source.peek(512);
  const magic = text(start, 0, 4);
  if (["RIFF", "RF64", "BW64"].includes(magic) && text(start, 8, 12) === "WAVE") return "wav";
  if (magic === "fLaC") return "flac";
  if (magic === "OggS") {
    // The first page of a file is the identification header of its first stream, mostly its only one.
    const page = text(start, 0, start.length);
    if (page.includes("OpusHead")) return "ogg-opus";
    if (page.includes("\x01vorbis")) return "ogg-vorbis";
    return undefined;
  }
  // Behind a tag there may be either; FLAC is told by its mark.
  const tag = id3Bytes(start);
  if (tag > 0) {
    const behind = (await source.bytesAt(tag, 4)) ?? (await source.peek(tag + 4)).subarray(tag);
    return text(behind, 0, 4) === "fLaC" ? "flac" : "mp3";
  }
  const frame = mp3FrameHeader(start);
  if (frame) {
    // Two bytes that look like a frame are soon found; a second frame right behind is not chance.
    const next = (await source.peek(frame.bytes + 4)).subarray(frame.bytes);
    if (next.length < 4 || mp3FrameHeader(next)?.sampleRate === frame.sampleRate) return "mp3";
  }
  return undefined;
}
