/** What identifies the speech of a training run: the contents of its manifests. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { unreadableFile } from "../checkpoint/json_file.js";

/** A manifest as it was at some time. */
export interface ManifestDigest {
  /** For messages: a manifest may be moved. */
  readonly path: string;
  /** Of all its bytes, as 64 hexadecimal digits. */
  readonly sha256: string;
}

/**
 * The digest of one manifest, for {@link TrainerOptions.manifests}.
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE
 *
 * @example
 * digestManifest("train.jsonl").sha256.length; // 64
 */
export function digestManifest(path: string): ManifestDigest {
  try {
    return { path, sha256: createHash("sha256").update(readFileSync(path)).digest("hex") };
  } catch (error) {
    throw unreadableFile(path, error);
  }
}

/** What became of the manifests of a run since it began, as the end of a sentence; undefined when they hold what they held. */
export function differenceOfManifests(began: readonly ManifestDigest[], now: readonly ManifestDigest[]): string | undefined {
  const names = (manifests: readonly ManifestDigest[]): string => manifests.map(({ path }) => path).join(", ");
  if (began.length !== now.length) return `of ${names(began)}, and now there are ${names(now)}`;
  const index = now.findIndex(({ sha256 }, i) => sha256 !== began[i]?.sha256);
  if (index < 0) return undefined;
  const [before, after] = [began[index]?.path, now[index]?.path];
  return before === after ? `of ${before}, which holds something else by now` : `of ${before}, and now there is ${after}, which differs`;
}
