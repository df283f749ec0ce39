/** Folders that appear whole or not at all. */
import {
  accessSync,
  chmodSync,
  closeSync,
  constants,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  renameSync,
  rmSync,
  statSync,
} from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { UsmLiteError } from "../errors.js";
import { holdTemporary } from "./held_file.js";

/**
 * Makes `folder` and those above it where they do not exist.
 * @param mode of `folder`, when it is made
 * @throws UsmLiteError FILE_UNWRITABLE
 */
export function makeFolder(folder: string, mode = 0o777): void {
  try {
    makeWithParents(resolve(folder), mode);
  } catch (cause) {
    throw unwritable(folder, cause);
  }
}

/** The option `recursive` of mkdir does not come to an end where nothing can be made although the folder above is there, as in /proc. */
function makeWithParents(folder: string, mode: number): void {
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) return;
  if (!existsSync(dirname(folder))) makeWithParents(dirname(folder), 0o777);
  try {
    mkdirSync(folder, mode);
  } catch (error) {
    if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) throw error; // otherwise somebody else was quicker
  }
}

function unwritable(folder: string, cause: unknown): UsmLiteError {
  const isFile = statSync(folder, { throwIfNoEntry: false })?.isFile();
  const reason = isFile ? "a file has that name; name another" : (cause as Error).message;
  return new UsmLiteError("FILE_UNWRITABLE", `folder ${folder} cannot be made: ${reason}`, { cause });
}

/**
 * What is there may be exchanged for a folder of files with these names: nothing at all, or a folder that holds no others.
 * @param what the folder would be, such as "an adapter"
 * @throws UsmLiteError INVALID_ARGUMENT for a file, or a folder that holds something else, which would be lost; FILE_UNWRITABLE where nothing
 * may be written
 */
export function checkReplaceable(folder: string, names: readonly string[], what: string): void {
  let above = dirname(resolve(folder));
  while (!existsSync(above)) above = dirname(above);
  try {
    accessSync(above, constants.W_OK);
  } catch (cause) {
    throw unwritable(folder, cause);
  }
  if (!existsSync(folder)) return;
  if (!statSync(folder).isDirectory()) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${folder} is a file, which ${what} would replace; name a folder`);
  }
  const other = readdirSync(folder).find((name) => !names.includes(name));
  if (other === undefined) return;
  throw new UsmLiteError(
    "INVALID_ARGUMENT",
    `${folder} holds ${other}, which ${what} would replace; name a folder that does not exist, or one with ${what} alone`,
  );
}

/**
 * Makes `folder` of what `fill` writes into a temporary one beside it. That of a process that was killed is emptied and used by the next one that
 * makes `folder`.
 * @param options.replace an existing folder is exchanged for the new one; otherwise it is an error
 * @throws UsmLiteError INVALID_ARGUMENT when the folder exists, FILE_UNWRITABLE; what is there then stays as it was
 */
export function writeFolderAtomically(
  folder: string,
  fill: (temporary: string) => void,
  { replace = false }: { replace?: boolean } = {},
): void {
  const target = resolve(folder);
  if (!replace && existsSync(target)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${folder} exists; name a folder that does not, so that nothing is overwritten`);
  }
  makeFolder(dirname(target));
  const { path: temporary, handle } = temporaryBeside(target);
  try {
    fill(temporary);
    // It was made for the owner alone.
    chmodSync(temporary, 0o755);
    exchange(temporary, target);
  } catch (error) {
    removeFilled(temporary);
    throw isOfFileSystem(error) ? unwritable(folder, error) : error;
  } finally {
    if (handle !== undefined) closeSync(handle);
  }
}

/** Where not even that is possible, the next one that makes the folder takes it over. */
function removeFilled(temporary: string): void {
  try {
    rmSync(temporary, { recursive: true, force: true });
  } catch {
    // Why it was to go is what must be told.
  }
}

/** No room, no rights, a place where something else is mounted: whatever the system refused. */
const isOfFileSystem = (error: unknown): boolean => typeof (error as NodeJS.ErrnoException | undefined)?.syscall === "string";

/** @returns with `handle` undefined on file systems without locks */
function temporaryBeside(target: string): { readonly path: string; readonly handle: number | undefined } {
  try {
    const held = holdTemporary(target, "folder");
    if (held) finishExchange(held.path, target);
    return held ?? { path: mkdtempSync(join(dirname(target), `.${basename(target)}-`)), handle: undefined };
  } catch (cause) {
    throw unwritable(target, cause);
  }
}

/** Where a folder lies while another is put into its place. */
const replacedBy = (temporary: string): string => `${temporary}-old`;

/** Renames `from` to `target`. A folder that is there goes, or comes back when the renaming fails. */
function exchange(from: string, target: string): void {
  const old = existsSync(target) ? replacedBy(from) : undefined;
  if (old) renameSync(target, old);
  try {
    renameSync(from, target);
  } catch (error) {
    if (old) renameSync(old, target);
    throw error;
  }
  if (old) rmSync(old, { recursive: true, force: true });
}

/** What a process left that was killed in the middle of {@link exchange}: a folder without a successor comes back, another goes. */
function finishExchange(temporary: string, target: string): void {
  const old = replacedBy(temporary);
  const found = lstatSync(old, { throwIfNoEntry: false });
  if (!found?.isDirectory() || found.uid !== process.geteuid?.()) return;
  if (existsSync(target)) rmSync(old, { recursive: true, force: true });
  else renameSync(old, target);
}
