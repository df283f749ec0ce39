/**
 * Keeps other runs from writing where one writes. A lock is a file that its run holds open ({@link hold}); one that lies around is free,
 * and taken over by the next run. It says for people whose it is.
 */
import { closeSync, ftruncateSync, readFileSync, rmSync } from "node:fs";
import { hostname } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { UsmLiteError } from "../errors.js";
import { writeAll } from "./atomic_file.js";
import { makeFolder } from "./atomic_folder.js";
import { hold, type Held } from "./held_file.js";

export class OutputLock implements Disposable {
  /** @param handle undefined on file systems without locks, which protect nothing */
  private constructor(
    private readonly path: string,
    private handle: number | undefined,
  ) {}

  /**
   * For what is renamed into its place when it is done: the lock is the file `.NAME.lock` beside it.
   * @throws UsmLiteError OUTPUT_IN_USE when another run has it, FILE_UNWRITABLE
   */
  static beside(output: string): OutputLock {
    const folder = dirname(resolve(output));
    makeFolder(folder);
    return OutputLock.take(join(folder, `.${basename(resolve(output))}.lock`), output);
  }

  /**
   * For a folder that a run works in, and is made here: the lock is the file `.lock` in it, since the folder above may be another's.
   * @throws UsmLiteError OUTPUT_IN_USE when another run has it, FILE_UNWRITABLE
   */
  static inside(folder: string): OutputLock {
    makeFolder(folder);
    return OutputLock.take(join(folder, ".lock"), folder);
  }

  [Symbol.dispose](): void {
    if (this.handle === undefined) return;
    rmSync(this.path, { force: true }); // while it is held: what is removed is nobody else's
    closeSync(this.handle);
    this.handle = undefined;
  }

  private static take(path: string, output: string): OutputLock {
    const held = opened(path, output);
    if (held.outcome === "busy") {
      throw new UsmLiteError(
        "OUTPUT_IN_USE",
        `${output} is being written by ${ownerOf(path)}; wait until that has ended, or end it, or name another place`,
      );
    }
    if (held.outcome === "unsupported") return new OutputLock(path, undefined);
    const lock = new OutputLock(path, held.handle);
    const owner = { pid: process.pid, host: hostname(), since: new Date().toISOString() };
    try {
      ftruncateSync(held.handle);
      writeAll(held.handle, Buffer.from(`${JSON.stringify(owner)}\n`, "utf8"));
    } catch (cause) {
      lock[Symbol.dispose]();
      throw new UsmLiteError("FILE_UNWRITABLE", `${output} cannot be written: ${(cause as Error).message}; its folder must have room`, { cause });
    }
    return lock;
  }
}

function opened(path: string, output: string): Held {
  try {
    return hold(path, "file");
  } catch (cause) {
    throw new UsmLiteError(
      "FILE_UNWRITABLE",
      `${output} cannot be written: its lock ${path} cannot be opened: ${(cause as Error).message}; its folder must be writable, and a lock there one's own`,
      { cause },
    );
  }
}

function ownerOf(path: string): string {
  try {
    const { pid, host, since } = JSON.parse(readFileSync(path, "utf8")) as { pid: number; host: string; since: string };
    return pid === process.pid && host === hostname()
      ? `this process itself (since ${since})`
      : `process ${pid} on ${host} (since ${since})`;
  } catch {
    return "another process"; // which has just begun, or ended
  }
}
