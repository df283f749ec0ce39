/**
 * Files and folders that one writer at a time holds. The system's lock says who: it goes when a process ends, even by SIGKILL, so that
 * nothing has to be guessed from process ids, which are used again and differ between containers, or from times, since a step of training
 * may take a minute in which no file is touched.
 */
import { closeSync, constants, fstatSync, ftruncateSync, lstatSync, mkdirSync, openSync, readdirSync, rmdirSync, rmSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { lockFile } from "../native/file_lock.js";

type Kind = "file" | "folder";

/** An open file or folder that is ours until it is closed, somebody else's, or no locks on this file system. */
export type Held =
  { readonly outcome: "held"; readonly handle: number } | { readonly outcome: "busy" } | { readonly outcome: "unsupported" };

/**
 * Opens and locks a file, or a folder for its owner alone; it is made when it is not there. Links are not followed.
 * @throws errors of the file system
 */
export function hold(path: string, kind: Kind): Held {
  const isNew = !isThere(path);
  for (;;) {
    const handle = open(path, kind);
    const outcome = lockFile(handle);
    if (outcome === "locked" && isAt(path, handle)) return { outcome: "held", handle };
    closeSync(handle);
    if (outcome === "unsupported" && isNew) remove(path, kind);
    // Otherwise whoever had it has renamed or removed it in between, and there is another one, or none, now.
    if (outcome !== "locked") return { outcome };
  }
}

/** So many may write the same at the same time. */
const maximumWriters = 100;

/** A place for what becomes something else when it is whole. */
export interface Temporary {
  readonly path: string;
  readonly handle: number;
}

/**
 * Makes and holds an empty file or folder beside `target`, always of the same name, `.NAME.partial`, so that what a killed process has left is
 * taken over and nothing piles up. While somebody else writes the same, or has something of that name, a number is added.
 * @returns undefined on file systems without locks
 * @throws errors of the file system
 */
export function holdTemporary(target: string, kind: Kind): Temporary | undefined {
  for (let number = 0; number < maximumWriters; number++) {
    const path = temporaryName(target, number);
    const held = holdUnlessForeign(path, kind);
    if (held.outcome === "unsupported") return undefined;
    if (held.outcome === "busy") continue;
    try {
      if (kind === "file") ftruncateSync(held.handle);
      else for (const left of readdirSync(path)) rmSync(join(path, left), { recursive: true });
      removeLeft(target, kind, number + 1);
    } catch (error) {
      removeIfEmpty(path, kind);
      closeSync(held.handle);
      throw error;
    }
    return { path, handle: held.handle };
  }
  return undefined;
}

const temporaryName = (target: string, number: number): string =>
  join(dirname(target), `.${basename(target)}${number === 0 ? "" : `.${number}`}.partial`);

/** Numbers that are looked for when a writer cleans up: more have hardly ever written the same at the same time. */
const likelyWriters = 8;

/** What writers have left that were killed while there were several of them. */
function removeLeft(target: string, kind: Kind, first: number): void {
  for (let number = first; number < likelyWriters; number++) {
    const path = temporaryName(target, number);
    if (!isThere(path)) continue;
    const held = holdUnlessForeign(path, kind);
    if (held.outcome !== "held") continue;
    rmSync(path, { recursive: true, force: true });
    closeSync(held.handle);
  }
}

/** What another user made, who could change it afterwards, or what is no file, is not written to. */
function holdUnlessForeign(path: string, kind: Kind): Held {
  let held: Held;
  try {
    held = hold(path, kind);
  } catch (error) {
    if (isThere(path) && !isScarcity(error)) return { outcome: "busy" };
    throw error;
  }
  if (held.outcome !== "held" || isOwn(held.handle)) return held;
  closeSync(held.handle);
  return { outcome: "busy" };
}

/** What would be refused under any other name, too. */
const isScarcity = (error: unknown): boolean =>
  ["EMFILE", "ENFILE", "ENOMEM", "ENOSPC", "EDQUOT", "EIO"].includes((error as NodeJS.ErrnoException).code ?? "");

function open(path: string, kind: Kind): number {
  const { O_RDWR, O_CREAT, O_RDONLY, O_DIRECTORY, O_NOFOLLOW } = constants;
  if (kind === "file") return openSync(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0o666);
  let isNew = true;
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    if (!isThere(path)) throw error;
    isNew = false;
  }
  try {
    return openSync(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  } catch (error) {
    if (isNew) removeIfEmpty(path, kind);
    throw error;
  }
}

function remove(path: string, kind: Kind): void {
  if (kind === "file") rmSync(path, { force: true });
  else rmdirSync(path); // nothing is in it
}

/** Of a folder in which something is, nothing goes: the next one takes it over. */
function removeIfEmpty(path: string, kind: Kind): void {
  try {
    remove(path, kind);
  } catch {
    // Why it was to go is what must be told.
  }
}

const isThere = (path: string): boolean => lstatSync(path, { throwIfNoEntry: false }) !== undefined;

function isAt(path: string, handle: number): boolean {
  const found = lstatSync(path, { throwIfNoEntry: false, bigint: true });
  const { dev, ino } = fstatSync(handle, { bigint: true });
  return found?.dev === dev && found.ino === ino;
}

/** Whether an open file or folder belongs to this user, under this name alone: what is written there stays in one's own hands. */
export function isOwn(handle: number): boolean {
  const found = fstatSync(handle);
  return found.uid === process.geteuid?.() && (found.isDirectory() || (found.isFile() && found.nlink === 1));
}
