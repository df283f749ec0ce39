/** Downloading one file: goes on where an earlier try stopped, and takes nothing for whole that is not. */
import { createHash } from "node:crypto";
import { closeSync, createReadStream, existsSync, openSync, renameSync, rmSync, statSync, truncateSync } from "node:fs";
import { writeAll } from "../checkpoint/atomic_file.js";
import { UsmLiteError } from "../errors.js";
import { request, type RemoteFile } from "./repository.js";

export interface DownloadOptions {
  readonly headers: Record<string, string>;
  /** Called with the bytes that are there, of this file. */
  readonly onProgress?: ((bytes: number) => void) | undefined;
}

const tries = 4;

/**
 * Writes `url` to `path`, whole or not at all; what arrived of it waits in `path.partial`.
 * @throws UsmLiteError DOWNLOAD_FAILED when it cannot be had, or is not what the hub says it is; FILE_UNWRITABLE
 */
export async function download(url: string, path: string, file: RemoteFile, options: DownloadOptions): Promise<void> {
  const partial = `${path}.partial`;
  for (let attempt = 1; ; attempt++) {
    try {
      await goOn(url, partial, file, options);
      break;
    } catch (error) {
      const isRefusal = error instanceof UsmLiteError && (error.code === "FILE_UNWRITABLE" || /answered 4\d\d/.test(error.message));
      if (attempt === tries || isRefusal) throw error;
      await new Promise((resolve) => setTimeout(resolve, 200 * 2 ** attempt));
    }
  }
  await check(partial, file, url);
  written(path, () => renameSync(partial, path));
}

async function goOn(url: string, partial: string, { size }: RemoteFile, { headers, onProgress }: DownloadOptions): Promise<void> {
  let position = existsSync(partial) ? statSync(partial).size : 0;
  if (size !== undefined && position > size) position = 0;
  if (size !== undefined && position === size && size > 0) return;
  const response = await request(url, position > 0 ? { ...headers, range: `bytes=${position}-` } : headers);
  // A server that does not know ranges sends everything again.
  if (response.status !== 206) position = 0;
  const handle = written(partial, () => openSync(partial, "a"));
  try {
    written(partial, () => truncateSync(partial, position));
    for await (const bytes of response.body ?? []) {
      written(partial, () => writeAll(handle, bytes as Uint8Array));
      position += (bytes as Uint8Array).length;
      onProgress?.(position);
      if (size !== undefined && position > size) break; // it is not what was promised, and need not come to an end
    }
  } catch (cause) {
    if (cause instanceof UsmLiteError) throw cause;
    throw new UsmLiteError("DOWNLOAD_FAILED", `${url} broke off after ${position} bytes: ${(cause as Error).message}`, { cause });
  } finally {
    closeSync(handle);
  }
  if (size !== undefined && position < size)
    throw new UsmLiteError("DOWNLOAD_FAILED", `${url} broke off after ${position} of ${size} bytes`);
}

function written<Result>(path: string, action: () => Result): Result {
  try {
    return action();
  } catch (cause) {
    throw new UsmLiteError(
      "FILE_UNWRITABLE",
      `${path} cannot be written: ${(cause as Error).message}; its folder must be writable and have room`,
      { cause },
    );
  }
}

async function check(partial: string, { name, size, checksum }: RemoteFile, url: string): Promise<void> {
  const found = statSync(partial).size;
  const refuse = (sentence: string): never => {
    rmSync(partial); // it would be wrong again
    throw new UsmLiteError("DOWNLOAD_FAILED", `${url}: ${name} ${sentence}`);
  };
  if (size !== undefined && found !== size) refuse(`has ${found} bytes, not the ${size} that the hub promises`);
  if (!checksum) return;
  const hash = createHash(checksum.kind === "sha256" ? "sha256" : "sha1");
  if (checksum.kind === "gitBlob") hash.update(`blob ${found}\0`);
  for await (const bytes of createReadStream(partial)) hash.update(bytes as Uint8Array);
  if (hash.digest("hex") !== checksum.hex) refuse("is not what the hub promises: its checksum differs");
}
