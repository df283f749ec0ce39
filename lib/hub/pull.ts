/** Models from a hub, kept in a folder of this machine: what `usm-lite pull` does. */
import { existsSync, readFileSync } from "node:fs";
import { homedir } from "node:os";
import { basename, join } from "node:path";
import { writeTextFile } from "../checkpoint/atomic_file.js";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { OutputLock } from "../checkpoint/output_lock.js";
import { UsmLiteError } from "../errors.js";
import { download } from "./download.js";
import { adapterLanguages, languageAdapterFile, readLanguageVocabularies, someLanguages } from "../text/language_vocabularies.js";
import { checkRepositoryName, defaultEndpoint, modelFilesOf, readRevision, type RemoteFile, type RemoteRevision } from "./repository.js";

/** What {@link pullModel} may be told. */
export interface PullOptions {
  /** Branch, tag or commit; default `main`. */
  readonly revision?: string | undefined;
  /**
   * Also brings the weights of this language, such as "fra", of a model with a file for each (MMS). Absent: those that `model.safetensors` is for.
   */
  readonly language?: string | undefined;
  /** Default: `HF_ENDPOINT`, else the Hugging Face hub. */
  readonly endpoint?: string | undefined;
  /** Where models are kept; default `USMLITE_CACHE`, else `~/.cache/usm-lite`. */
  readonly cache?: string | undefined;
  /** Asks no server: only what was pulled before is found. */
  readonly offline?: boolean | undefined;
  readonly onStatus?: ((sentence: string) => void) | undefined;
  readonly onProgress?: ((name: string, bytes: number, size: number | undefined) => void) | undefined;
}

/**
 * The folder of a model, downloaded unless it is there. A revision that was pulled is not downloaded again; one that broke off goes
 * on where it stopped. Languages that are pulled one after the other lie beside each other.
 * @param repository ORG/MODEL
 * @throws UsmLiteError INVALID_ARGUMENT, also for a language that the model has no file for; DOWNLOAD_FAILED; FILE_NOT_FOUND when it is not
 * there and `offline`
 *
 * @example
 * const model = loadModel(await pullModel("nvidia/parakeet-ctc-0.6b"));
 */
export async function pullModel(repository: string, options: PullOptions = {}): Promise<string> {
  const { revision = "main", language, endpoint = defaultEndpoint, offline = false, onStatus } = options;
  checkRepositoryName(repository);
  const home = join(options.cache ?? process.env["USMLITE_CACHE"] ?? join(homedir(), ".cache", "usm-lite"), repository.replace("/", "--"));
  const reference = join(home, `${encodeURIComponent(revision)}.ref`);
  const folderOf = (commit: string): string => join(home, commit);
  if (offline) {
    const folder = existsSync(reference) ? folderOf(readFileSync(reference, "utf8").trim()) : folderOf(revision);
    const there = existsSync(join(folder, COMPLETE));
    if (there && (language === undefined || hasLanguage(folder, language))) return folder;
    const what = there ? `the language "${language}" of ${repository}` : repository;
    throw new UsmLiteError("FILE_NOT_FOUND", `${what} (${revision}) was never pulled to ${home}; pull it once without --offline`);
  }
  const token = process.env["HF_TOKEN"];
  const headers: Record<string, string> = token ? { authorization: `Bearer ${token}` } : {};
  const remote = await readRevision(endpoint, repository, revision, headers);
  const folder = folderOf(remote.commit);
  const bring = (file: RemoteFile): Promise<void> =>
    downloadInto(folder, file, `${endpoint}/${repository}/resolve/${remote.commit}`, { ...options, headers });
  if (!existsSync(join(folder, COMPLETE))) {
    const files = modelFilesOf(remote);
    if (language !== undefined) languageFileOf(remote, repository, language); // a wrong one is told before gigabytes come
    for (const needed of ["config.json", "safetensors"]) {
      if (files.some(({ name }) => name.endsWith(needed))) continue;
      throw new UsmLiteError(
        "DOWNLOAD_FAILED",
        `${repository} has no ${needed === "safetensors" ? "weights in safetensors files" : needed}`,
      );
    }
    using _lock = await lockWhenFree(folder, onStatus);
    makeFolder(folder);
    for (const file of files) await bring(file);
    writeTextFile(join(folder, COMPLETE), `${repository} ${remote.commit}\n`);
  }
  writeTextFile(reference, `${remote.commit}\n`);
  if (language !== undefined && !hasLanguage(folder, language)) {
    const file = languageFileOf(remote, repository, language);
    using _lock = await lockWhenFree(folder, onStatus);
    await bring(file);
  }
  return folder;
}

/** Unless it is there. */
async function downloadInto(
  folder: string,
  file: RemoteFile,
  from: string,
  { onStatus, onProgress, headers }: PullOptions & { readonly headers: Record<string, string> },
): Promise<void> {
  const path = join(folder, file.name);
  if (existsSync(path)) return;
  onStatus?.(`${file.name}${file.size === undefined ? "" : `, ${(file.size / 1e6).toFixed(1)} MB`}`);
  const url = `${from}/${encodeURIComponent(file.name)}`;
  await download(url, path, file, { headers, onProgress: (bytes) => onProgress?.(file.name, bytes, file.size) });
}

/** Whether a folder has all that the model has for a language: a file, or its own weights. */
const hasLanguage = (folder: string, language: string): boolean =>
  existsSync(join(folder, languageAdapterFile(language))) || readLanguageVocabularies(folder)?.own === language;

/** @throws UsmLiteError INVALID_ARGUMENT where there is none */
function languageFileOf({ files }: RemoteRevision, repository: string, language: string): RemoteFile {
  const file = files.find(({ name }) => name === languageAdapterFile(language) && basename(name) === name);
  if (file) return file;
  const known = adapterLanguages(files.map(({ name }) => name));
  throw new UsmLiteError(
    "INVALID_ARGUMENT",
    known.length > 0
      ? `${repository} has no ${languageAdapterFile(language)}; it has such files for ${someLanguages(known, language)}`
      : `${repository} has no file for each language; leave the language out`,
  );
}

const lockCheckMs = 500;

/** Whoever wants the same model waits, and then finds it. */
async function lockWhenFree(folder: string, onStatus: PullOptions["onStatus"]): Promise<OutputLock> {
  for (let attempt = 1; ; attempt++) {
    try {
      return OutputLock.beside(folder);
    } catch (error) {
      if (!(error instanceof UsmLiteError && error.code === "OUTPUT_IN_USE")) throw error;
      if (attempt === 1) onStatus?.(`waiting: ${error.message}`);
      await new Promise((resolve) => setTimeout(resolve, lockCheckMs));
    }
  }
}

/** There when all files are. */
const COMPLETE = ".complete";
