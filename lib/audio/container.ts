/** Which format a file has, by its first bytes; names and extensions are not trusted. */
import type { ByteSource } from "./byte_source.js";

export type AudioFormat = "wav" | "flac" | "ogg-opus" | "ogg-vorbis" | "mp3";

const ascii = (bytes: Uint8Array, begin: number, length: number): string =>
  String.fromCharCode(...bytes.subarray(begin, begin + length));

/** The format of what `source` holds, or undefined for one that has no decoder here. Takes no bytes. */
export async function detectFormat(source: ByteSource): Promise<AudioFormat | undefined> {
  const start = await source.peek(64);
  const magic = ascii(start, 0, 4);
  if (magic === "OggS") {
    // The first page of a file begins with the identification header of its first stream, mostly its only one.
    const page = await source.peek(512);
    const text = ascii(page, 0, page.length);
    if (text.includes("OpusHead")) return "ogg-opus";
    if (text.includes("\x01vorbis")) return "ogg-vorbis";
  }
  return undefined;
}
