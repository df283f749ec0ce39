/** Files that appear whole or not at all: written under a temporary name in the same folder, synced, then renamed. */
import { accessSync, closeSync, constants, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { threadId } from "node:worker_threads";
import { UsmLiteError } from "../errors.js";

/** Appends bytes to a file being written. */
export type ByteSink = (bytes: Uint8Array) => void;

/**
 * Writes `path` through `produce`. When anything throws, `path` keeps its old content and the temporary file is removed.
 * @throws UsmLiteError FILE_UNWRITABLE, or whatever `produce` throws
 */
export function writeFileAtomically(path: string, produce: (append: ByteSink) => void): void {
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${threadId}.partial`);
  let handle: number | undefined;
  try {
    handle = attempt(path, () => openSync(temporary, "w"));
    const open = handle;
    produce((bytes) => attempt(path, () => writeAll(open, bytes)));
    attempt(path, () => {
      fsyncSync(open);
      handle = undefined;
      closeSync(open);
      renameSync(temporary, path);
      syncFolder(dirname(path));
    });
  } catch (error) {
    if (handle !== undefined) closeSync(handle);
    rmSync(temporary, { force: true });
    throw error;
  }
}

/** Before something is computed for hours: `path` may be written, as far as its folder tells. @throws UsmLiteError FILE_UNWRITABLE */
export function checkWritable(path: string): void {
  attempt(path, () => {
    accessSync(dirname(path), constants.W_OK);
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) throw new Error("it is a folder");
  });
}

/** Writes a text file whole or not at all. @throws UsmLiteError FILE_UNWRITABLE */
export function writeTextFile(path: string, text: string): void {
  writeFileAtomically(path, (append) => append(Buffer.from(text, "utf8")));
}

function writeAll(handle: number, bytes: Uint8Array): void {
  const largest = 2 ** 30; // one write call takes at most 2 GiB
  for (let begin = 0; begin < bytes.length;) {
    begin += writeSync(handle, bytes, begin, Math.min(bytes.length - begin, largest));
  }
}

// The rename itself is durable only when the folder is synced.
function syncFolder(folder: string): void {
  const handle = openSync(folder, "r");
  try {
    fsyncSync(handle);
  } finally {
    closeSync(handle);
  }
}

function attempt<Result>(path: string, action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    throw new UsmLiteError(
      "FILE_UNWRITABLE",
      `${path} cannot be written: ${(error as Error).message}; its folder must exist, be writable and have room`,
      { cause: error },
    );
  }
}
