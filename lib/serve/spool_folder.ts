/**
 * The folder in which uploads lie while they wait. It belongs to one server, which holds it open and locked: so programs that clean up
 * temporary folders (systemd-tmpfiles) see that it is in use, and the next server that those of killed ones are not.
 */
import { randomUUID } from "node:crypto";
import { closeSync, existsSync } from "node:fs";
import { readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { hold, isOwn } from "../checkpoint/held_file.js";
import { UsmLiteError } from "../errors.js";

const prefix = "usm-lite-uploads-";
/** Nothing else is called so, and may be removed. */
const isSpoolName = (name: string): boolean => /^usm-lite-uploads-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(name);

export class SpoolFolder implements AsyncDisposable {
  /** Undefined on file systems without locks. */
  private handle: number | undefined;

  private constructor(readonly path: string) {
    this.take();
  }

  /**
   * @param parent where to make it; the system's temporary folder when absent
   * @throws UsmLiteError FILE_UNWRITABLE
   */
  static async make(parent = tmpdir()): Promise<SpoolFolder> {
    try {
      makeFolder(parent);
      await removeAbandoned(parent);
      return new SpoolFolder(join(parent, `${prefix}${randomUUID()}`));
    } catch (cause) {
      throw new UsmLiteError("FILE_UNWRITABLE", `no folder for uploads can be made in ${parent}: ${(cause as Error).message}`, { cause });
    }
  }

  /** Makes it again, should somebody who cleans up have taken it. */
  ensure(): void {
    if (!existsSync(this.path)) this.take();
  }

  /** Removes it, and whatever is in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
    this.release();
  }

  private take(): void {
    this.release();
    makeFolder(this.path, 0o700); // where there are no locks it is to stay
    const held = hold(this.path, "folder");
    if (held.outcome === "held") this.handle = held.handle;
  }

  private release(): void {
    if (this.handle !== undefined) closeSync(this.handle);
    this.handle = undefined;
  }
}

/** What people said must not lie around because a server was killed. Others' folders are theirs. */
async function removeAbandoned(parent: string): Promise<void> {
  const names = (await readdir(parent)).filter(isSpoolName);
  for (const path of names.map((name) => join(parent, name))) {
    try {
      const held = hold(path, "folder");
      if (held.outcome !== "held") continue;
      if (isOwn(held.handle)) await rm(path, { recursive: true, force: true });
      closeSync(held.handle);
    } catch {
      // Another user's, a link, or another server was quicker.
    }
  }
}
