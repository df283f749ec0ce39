/** How the features of one utterance lie on disk: 16 bits per value, linear between the smallest and the largest. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import type { Features } from "./feature_cache.js";

const magic = 0x314c454d; // "MEL1"
const headerBytes = 20; // magic, frames, bins, smallest (float32), step (float32); then uint16 values

/** The error of a value is at most half a step, 1/131070 of the range: far below that of a float16. */
export function encodeFeatures({ values, frames, bins }: Features): Uint8Array {
  let smallest = Infinity;
  let largest = -Infinity;
  for (let i = 0; i < values.length; i++) {
    smallest = Math.min(smallest, values[i] as number);
    largest = Math.max(largest, values[i] as number);
  }
  const bytes = new Uint8Array(headerBytes + 2 * values.length);
  const header = new DataView(bytes.buffer);
  const step = values.length > 0 ? (largest - smallest) / 65535 : 0;
  header.setUint32(0, magic, true);
  header.setUint32(4, frames, true);
  header.setUint32(8, bins, true);
  header.setFloat32(12, values.length > 0 ? smallest : 0, true);
  header.setFloat32(16, step, true);
  const codes = new Uint16Array(bytes.buffer, headerBytes);
  for (let i = 0; i < values.length; i++) codes[i] = step === 0 ? 0 : Math.round(((values[i] as number) - smallest) / step);
  return bytes;
}

/** Whether `path` is a whole feature file, by its header and size. */
export function isFeatureFile(path: string): boolean {
  let handle: number | undefined;
  try {
    handle = openSync(path, "r");
    const header = new Uint8Array(headerBytes);
    return readSync(handle, header, 0, headerBytes, 0) === headerBytes && shapeOf(header, fstatSync(handle).size) !== undefined;
  } catch {
    return false;
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}

/** The features in a file's bytes, or undefined when those are not a whole feature file. */
export function decodeFeatures(bytes: Uint8Array): Features | undefined {
  const shape = shapeOf(bytes, bytes.length);
  if (!shape) return undefined;
  const { frames, bins } = shape;
  const header = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
  const smallest = header.getFloat32(12, true);
  const step = header.getFloat32(16, true);
  // Files read in one piece may start anywhere in a shared buffer.
  const aligned = bytes.byteOffset % 2 === 0 ? bytes : new Uint8Array(bytes);
  const codes = new Uint16Array(aligned.buffer, aligned.byteOffset + headerBytes, frames * bins);
  const values = new Float32Array(codes.length);
  for (let i = 0; i < codes.length; i++) values[i] = smallest + step * (codes[i] as number);
  return { values, frames, bins };
}

function shapeOf(bytes: Uint8Array, size: number): { frames: number; bins: number } | undefined {
  if (bytes.length < headerBytes) return undefined;
  const header = new DataView(bytes.buffer, bytes.byteOffset, headerBytes);
  const frames = header.getUint32(4, true);
  const bins = header.getUint32(8, true);
  return header.getUint32(0, true) === magic && size === headerBytes + 2 * frames * bins ? { frames, bins } : undefined;
}
