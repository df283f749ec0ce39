/** The recorded outputs of transformers that models are compared with. */
import { existsSync, readdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { readSafetensors, type SafetensorsFile } from "../lib/checkpoint/safetensors.js";
import { writeSafetensors, type SafetensorsEntry } from "../lib/checkpoint/safetensors_writer.js";
import { decodeAudio } from "../lib/operations.js";
import { sharedFolder } from "./shared.js";

/** The folder of a family, or undefined where this machine has none: tests that need it skip. */
export function referenceFolder(family: string): string | undefined {
  const shared = sharedFolder();
  const folder = shared && join(shared, "reference", family);
  return folder && existsSync(folder) ? folder : undefined;
}

/** What transformers computed for the family. */
export const readExpected = (folder: string): SafetensorsFile => readSafetensors(join(folder, "expected.safetensors"));

/** The clips that every family was given, in their order. */
export async function referenceClips(): Promise<Float32Array[]> {
  const folder = join(sharedFolder() as string, "reference", "audio");
  const decoded = await Promise.all(
    readdirSync(folder)
      .sort()
      .map((clip) => decodeAudio(join(folder, clip))),
  );
  return decoded.map(({ samples }) => samples);
}

/**
 * Largest difference over rows that are not padding, relative to the largest value.
 * @param frames rows of each item
 * @param lengths rows of each item that count
 */
export function relativeError(ours: Float32Array, theirs: Float32Array, frames: number, lengths: readonly number[]): number {
  const width = ours.length / (frames * lengths.length);
  let largest = 0;
  let difference = 0;
  lengths.forEach((length, item) => {
    for (let i = item * frames * width; i < (item * frames + length) * width; i++) {
      largest = Math.max(largest, Math.abs(theirs[i] as number));
      const error = Math.abs((ours[i] as number) - (theirs[i] as number));
      difference = error > difference || Number.isNaN(error) ? error : difference;
    }
  });
  return difference / largest;
}

/** The rows of each item that a mask (batch, rows) marks. */
export function maskLengths(file: SafetensorsFile, name: string): number[] {
  const mask = file.values(name);
  const [batch = 0, rows = 0] = file.shape(name);
  return Array.from({ length: batch }, (_, item) => mask.subarray(item * rows, (item + 1) * rows).filter(Boolean).length);
}

/** What an entry holds once it is written and read again. */
export function throughFile<Result>(entries: Iterable<[string, SafetensorsEntry]>, use: (file: SafetensorsFile) => Result): Result {
  const folder = mkdtempSync(join(tmpdir(), "usm-lite-"));
  try {
    const path = join(folder, "out.safetensors");
    writeSafetensors(path, entries);
    using file = readSafetensors(path);
    return use(file);
  } finally {
    rmSync(folder, { recursive: true });
  }
}
