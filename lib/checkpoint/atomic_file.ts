/** Files that appear whole or not at all: written under a temporary name in the same folder, synced, then renamed. */
import { accessSync, appendFileSync, closeSync, constants, fsyncSync, openSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { threadId } from "node:worker_threads";
import { UsmLiteError } from "../errors.js";
import { holdTemporary, type Temporary } from "./held_file.js";

/** Appends bytes to a file being written. */
export type ByteSink = (bytes: Uint8Array) => void;

/**
 * Writes `path` through `produce`. When anything throws, `path` keeps its old content and the temporary file is removed. That of a process that
 * was killed is taken over by the next one that writes `path`.
 * @param options.durable false: not synced, for what is made again should the machine fail
 * @throws UsmLiteError FILE_UNWRITABLE, or whatever `produce` throws
 */
export function writeFileAtomically(
  path: string,
  produce: (append: ByteSink) => void,
  { durable = true }: { readonly durable?: boolean } = {},
): void {
  const { path: temporary, handle } = attempt(path, () => openTemporary(path));
  let folder: number | undefined;
  try {
    produce((bytes) => attempt(path, () => writeAll(handle, bytes)));
    attempt(path, () => {
      if (durable) {
        folder = openSync(dirname(path), "r"); // what may fail comes before the renaming
        fsyncSync(handle);
      }
      renameSync(temporary, path);
      if (folder !== undefined) fsyncSync(folder); // the rename itself is durable only when the folder is synced
    });
  } catch (error) {
    rmSync(temporary, { force: true });
    throw error;
  } finally {
    closeSync(handle); // not before it has its name: another writer would take it for one that was left behind
    if (folder !== undefined) closeSync(folder);
  }
}

function openTemporary(path: string): Temporary {
  const held = holdTemporary(path, "file");
  if (held) return held;
  // No locks here: a name that nobody else has.
  const temporary = join(dirname(path), `.${basename(path)}.${process.pid}-${threadId}.partial`);
  return { path: temporary, handle: openSync(temporary, "w") };
}

/** Appends to a log of a run, which a crash may cut off. @throws UsmLiteError FILE_UNWRITABLE */
export function appendText(path: string, text: string): void {
  attempt(path, () => appendFileSync(path, text));
}

/** Before something is computed for hours: `path` may be written, as far as its folder tells. @throws UsmLiteError FILE_UNWRITABLE */
export function checkWritable(path: string): void {
  attempt(path, () => {
    if (statSync(path, { throwIfNoEntry: false })?.isDirectory()) {
      throw new UsmLiteError("FILE_UNWRITABLE", `${path} is a folder; name the file to write`);
    }
    accessSync(dirname(path), constants.W_OK);
  });
}

/** Writes a text file whole or not at all. @throws UsmLiteError FILE_UNWRITABLE */
export function writeTextFile(path: string, text: string): void {
  writeFileAtomically(path, (append) => append(Buffer.from(text, "utf8")));
}

/** Writes all of `bytes`: one call of the system may take fewer. @throws errors of the file system */
export function writeAll(handle: number, bytes: Uint8Array): void {
  const largest = 2 ** 30; // one write call takes at most 2 GiB
  for (let begin = 0; begin < bytes.length;) {
    begin += writeSync(handle, bytes, begin, Math.min(bytes.length - begin, largest));
  }
}

function attempt<Result>(path: string, action: () => Result): Result {
  try {
    return action();
  } catch (error) {
    if (error instanceof UsmLiteError) throw error;
    throw new UsmLiteError(
      "FILE_UNWRITABLE",
      `${path} cannot be written: ${(error as Error).message}; its folder must exist, be writable and have room`,
      { cause: error },
    );
  }
}
