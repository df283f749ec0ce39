/**
 * The folder in which uploads lie while they wait. It belongs to one server, which touches it now and then: programs that clean up
 * temporary folders take old ones, and so does the next server, of those whose servers were killed.
 */
import { lstat, mkdtemp, readdir, rm, utimes } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { UsmLiteError } from "../errors.js";

const prefix = "usm-lite-serve-";
const touchMs = 60_000;
/** A folder that was not touched for so long has lost its server. */
const abandonedMs = 60 * touchMs;

export class SpoolFolder implements AsyncDisposable {
  private readonly timer = setInterval(() => void this.touch(), touchMs).unref();

  private constructor(readonly path: string) {}

  /**
   * @param parent where to make it; the system's temporary folder when absent
   * @throws UsmLiteError FILE_UNWRITABLE
   */
  static async make(parent = tmpdir()): Promise<SpoolFolder> {
    try {
      makeFolder(parent);
      await removeAbandoned(parent);
      return new SpoolFolder(await mkdtemp(join(parent, prefix)));
    } catch (cause) {
      throw new UsmLiteError("FILE_UNWRITABLE", `no folder for uploads can be made in ${parent}: ${(cause as Error).message}`, { cause });
    }
  }

  /** Removes it, and whatever is in it. */
  async [Symbol.asyncDispose](): Promise<void> {
    clearInterval(this.timer);
    await rm(this.path, { recursive: true, force: true });
  }

  private async touch(): Promise<void> {
    const now = new Date();
    await utimes(this.path, now, now).catch(() => undefined); // uploads make it again
  }
}

/** What people said must not lie around because a server was killed. Others' folders are theirs. */
async function removeAbandoned(parent: string): Promise<void> {
  const names = (await readdir(parent)).filter((name) => name.startsWith(prefix));
  for (const path of names.map((name) => join(parent, name))) {
    const found = await lstat(path).catch(() => undefined); // another server may be quicker
    if (!found?.isDirectory() || found.uid !== process.getuid?.() || Date.now() - found.mtimeMs < abandonedMs) continue;
    await rm(path, { recursive: true, force: true }).catch(() => undefined);
  }
}
