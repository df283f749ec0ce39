/** Features of a corpus, computed once and kept on disk, so that epochs decode no audio. */
import { createHash } from "node:crypto";
import { existsSync, readFileSync, statSync } from "node:fs";
import { dirname, join } from "node:path";
import { Worker } from "node:worker_threads";
import type { LogMelConfig } from "../audio/log_mel.js";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { unreadableFile, type JsonObject } from "../checkpoint/json_file.js";
import { errorOfWorker, UsmLiteError, type UsmLiteErrorCode } from "../errors.js";
import { threadCount } from "../native/runtime.js";
import { decodeFeatures, isFeatureFile } from "./feature_file.js";
import type { Utterance } from "./manifest.js";

// Starting another worker takes about as long as making the features of this much audio.
const workerSeconds = 120;

// Part of every key: raise it when the features of the same audio change.
const version = 1;

/** What makes the features: the log-mel front end of LASR, or that of a model folder by its `config.json` and `preprocessor_config.json`. */
export type FrontEndSource = LogMelConfig | { readonly model: JsonObject; readonly preprocessor: JsonObject };

/** Features of one utterance. */
export interface Features {
  /** (frames, bins) */
  readonly values: Float32Array;
  readonly frames: number;
  readonly bins: number;
}

/** One audio file and what to make of it; posted to the worker. */
export interface FeatureJob {
  readonly audioPath: string;
  readonly segments: readonly {
    readonly source: string;
    readonly offset: number | undefined;
    readonly duration: number;
    readonly outputs: readonly { readonly speed: number; readonly path: string }[];
  }[];
}

/** The worker's answer to a job; with `code` when it failed. */
export interface FeatureJobDone {
  readonly code?: UsmLiteErrorCode;
  readonly message?: string;
}

/** How {@link FeatureCache.prepare} computes. */
export interface PrepareOptions {
  readonly signal?: AbortSignal;
  /** Worker threads; default: as many as the native code uses, and not more than the audio keeps busy. */
  readonly workers?: number;
  /** Called after each audio file. */
  readonly onProgress?: (done: number, total: number) => void;
}

/**
 * A folder of features, one file per utterance and speed. A file's name is a hash of all that determines its content,
 * so changed audio, another front end or another speed never meet a stale file, and an interrupted preparation goes on
 * where it stopped.
 *
 * @example
 * const cache = new FeatureCache("features", logMelConfigFrom({}));
 * await cache.prepare(utterances, [0.9, 1, 1.1]); // audio at three speeds
 * const frames = utterances.map((utterance) => cache.read(utterance, 1).frames);
 */
export class FeatureCache {
  private readonly paths = new Map<string, string>();

  constructor(
    private readonly folder: string,
    private readonly frontEnd: FrontEndSource,
  ) {}

  /**
   * Computes what is missing, in worker threads.
   * @param speeds factors of speed perturbation; 1 is the audio as it is
   * @throws UsmLiteError errors of audio files, naming the manifest line; BAD_MANIFEST for a segment beyond the end of
   *   its file; FILE_UNWRITABLE; ABORTED
   */
  async prepare(utterances: readonly Utterance[], speeds: readonly number[], options: PrepareOptions = {}): Promise<void> {
    const jobs = this.missing(utterances, speeds);
    const workers = Math.min(options.workers ?? usefulWorkers(jobs), jobs.length);
    const queue = jobs.values();
    let done = 0;
    await Promise.all(
      Array.from({ length: workers }, () =>
        runWorker(queue, this.frontEnd, options.signal, () => options.onProgress?.(++done, jobs.length)),
      ),
    );
  }

  /** Features that {@link FeatureCache.prepare} has computed. @throws UsmLiteError FILE_NOT_FOUND otherwise */
  read(utterance: Utterance, speed: number): Features {
    const path = this.path(utterance, speed);
    const features = existsSync(path) ? decodeFeatures(readable(path, () => readFileSync(path))) : undefined;
    if (!features) {
      throw new UsmLiteError(
        "FILE_NOT_FOUND",
        `${utterance.source}: its features at speed ${speed} are missing from ${this.folder}; prepare them first`,
      );
    }
    return features;
  }

  private missing(utterances: readonly Utterance[], speeds: readonly number[]): FeatureJob[] {
    const segments = new Map<string, FeatureJob["segments"][number][]>();
    for (const utterance of utterances) {
      const outputs = speeds.map((speed) => ({ speed, path: this.path(utterance, speed) })).filter(({ path }) => !isFeatureFile(path));
      if (outputs.length === 0) continue;
      for (const { path } of outputs) makeFolder(dirname(path));
      const { audioPath, source, offset, duration } = utterance;
      const ofFile = segments.get(audioPath) ?? [];
      ofFile.push({ source, offset, duration, outputs });
      segments.set(audioPath, ofFile);
    }
    return Array.from(segments, ([audioPath, ofFile]) => ({ audioPath, segments: ofFile }));
  }

  private path(utterance: Utterance, speed: number): string {
    const { audioPath, offset, duration } = utterance;
    const key = JSON.stringify([audioPath, offset === undefined ? null : [offset, duration], speed]);
    let path = this.paths.get(key);
    if (!path) {
      const { size, mtimeMs } = readable(audioPath, () => statSync(audioPath));
      // Of the model nothing but its family matters to features.
      const frontEnd = "model" in this.frontEnd ? [this.frontEnd.model["model_type"], this.frontEnd.preprocessor] : this.frontEnd;
      const hash = createHash("sha256")
        .update(JSON.stringify([version, key, size, mtimeMs, frontEnd]))
        .digest("hex");
      path = join(this.folder, hash.slice(0, 2), `${hash.slice(2, 34)}.features`);
      this.paths.set(key, path);
    }
    return path;
  }
}

function usefulWorkers(jobs: readonly FeatureJob[]): number {
  const seconds = jobs.flatMap(({ segments }) => segments).reduce((sum, { duration, outputs }) => sum + duration * outputs.length, 0);
  return Math.min(threadCount(), Math.ceil(seconds / workerSeconds) || 1);
}

/** @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE */
function readable<Result>(path: string, read: () => Result): Result {
  try {
    return read();
  } catch (error) {
    throw unreadableFile(path, error);
  }
}

/** Feeds one worker from `queue` until that is empty. */
function runWorker(
  queue: IterableIterator<FeatureJob>,
  frontEnd: FrontEndSource,
  signal: AbortSignal | undefined,
  onDone: () => void,
): Promise<void> {
  const worker = new Worker(new URL("./feature_worker.js", import.meta.url), { workerData: frontEnd });
  return new Promise<void>((resolve, reject) => {
    const abort = (): void => reject(new UsmLiteError("ABORTED", "feature extraction was stopped; what is done is kept"));
    const next = (): void => {
      const { value: job } = queue.next() as IteratorResult<FeatureJob, undefined>;
      if (job) worker.postMessage(job);
      else resolve();
    };
    if (signal?.aborted) abort();
    signal?.addEventListener("abort", abort, { once: true });
    worker.on("message", ({ code, message }: FeatureJobDone) => {
      if (code) return reject(new UsmLiteError(code, message ?? ""));
      onDone();
      next();
    });
    worker.on("error", (error) => reject(errorOfWorker(error as Error)));
    worker.on("exit", (status) => reject(new UsmLiteError("INTERNAL", `the feature extraction worker ended with status ${status}`)));
    next();
  }).finally(() => worker.terminate());
}
