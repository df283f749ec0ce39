/** Folders that appear whole or not at all. */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, renameSync, rmSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { UsmLiteError } from "../errors.js";

/**
 * Makes `folder` of what `fill` writes into a temporary one beside it.
 * @param options.replace an existing folder is exchanged for the new one; otherwise it is an error
 * @throws UsmLiteError INVALID_ARGUMENT when the folder exists
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
  mkdirSync(dirname(target), { recursive: true });
  const temporary = mkdtempSync(join(dirname(target), `.${basename(target)}-`));
  try {
    fill(temporary);
    // mkdtemp makes folders for the owner alone.
    chmodSync(temporary, 0o755);
    const old = `${temporary}-old`;
    if (existsSync(target)) renameSync(target, old);
    renameSync(temporary, target);
    rmSync(old, { recursive: true, force: true });
  } catch (error) {
    rmSync(temporary, { recursive: true, force: true });
    throw error;
  }
}
