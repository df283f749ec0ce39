/** Transcription off the event loop: a worker thread holds the model, the caller awaits. */
import { Worker } from "node:worker_threads";
import { UsmLiteError, type UsmLiteErrorCode } from "../errors.js";
import { defaultModelFolder } from "../models/default_model.js";
import type { RecognizedSpeech } from "./decoding.js";
import type { RecognizerOptions } from "./recognizer.js";

/** A path, the bytes of an audio file, or mono samples at 16 kHz in [-1, 1]. */
export type AudioInput = string | Uint8Array | Float32Array;

/** Longer audio is refused unless `maximumSeconds` allows it: a guard against input without end, not a matter of memory. */
export const defaultMaximumHours = 4;

export interface TranscriberOptions extends RecognizerOptions {
  /** Model folder; the model of this package when absent. */
  readonly model?: string;
  /** Longest audio accepted, in seconds; {@link defaultMaximumHours} when absent, Infinity for no limit. */
  readonly maximumSeconds?: number;
}

/** What the worker is asked. `aborted` is shared memory: it becomes 1 when the caller gives up. */
export interface TranscriptionRequest {
  readonly id: number;
  readonly audio: AudioInput;
  readonly aborted: Int32Array;
}

/** What the worker answers: first `ready`, then one answer for each request. */
export type TranscriptionAnswer =
  | { readonly kind: "ready" }
  | { readonly kind: "done"; readonly id: number; readonly transcript: RecognizedSpeech }
  | { readonly kind: "failed"; readonly id?: number; readonly code: UsmLiteErrorCode; readonly message: string };

interface Pending {
  resolve(transcript: RecognizedSpeech): void;
  reject(error: Error): void;
}

/**
 * Holds one model in a worker thread; requests are served in order, each on all threads.
 *
 * @example
 * await using transcriber = await Transcriber.load();
 * const { text } = await transcriber.transcribe("speech.flac");
 */
export class Transcriber implements AsyncDisposable {
  private readonly pending = new Map<number, Pending>();
  private nextId = 0;
  private failure: UsmLiteError | undefined;

  private constructor(private readonly worker: Worker) {}

  /**
   * Starts the worker and loads the model.
   * @throws UsmLiteError as {@link loadModel} does
   */
  static async load(options: TranscriberOptions = {}): Promise<Transcriber> {
    const workerData = { ...options, model: options.model ?? defaultModelFolder };
    const worker = new Worker(new URL("./transcription_worker.js", import.meta.url), { workerData });
    const transcriber = new Transcriber(worker);
    await new Promise<void>((resolve, reject) => {
      worker.on("message", (answer: TranscriptionAnswer) => {
        if (answer.kind === "ready") resolve();
        else if (answer.kind === "failed" && answer.id === undefined) reject(new UsmLiteError(answer.code, answer.message));
        else transcriber.settle(answer);
      });
      worker.on("error", (error) => {
        const failure = new UsmLiteError("INTERNAL", `the transcription worker failed: ${error.message}`, { cause: error });
        transcriber.fail(failure);
        reject(failure);
      });
      worker.on("exit", (status) => {
        transcriber.fail(new UsmLiteError("ABORTED", "the transcriber was closed"));
        // Without effect unless the worker ended before it was ready.
        reject(new UsmLiteError("INTERNAL", `the transcription worker ended with status ${status} before it was ready`));
      });
    });
    return transcriber;
  }

  /**
   * Files are read piece by piece, so that memory hardly grows with their length.
   *
   * @param signal gives up: the promise rejects at once with `ABORTED`, and the worker stops at the next chunk
   * @throws UsmLiteError BAD_AUDIO, FILE_NOT_FOUND, FILE_UNREADABLE, AUDIO_TOO_LONG, ABORTED
   */
  transcribe(audio: AudioInput, { signal }: { signal?: AbortSignal } = {}): Promise<RecognizedSpeech> {
    if (this.failure) return Promise.reject(this.failure);
    if (signal?.aborted) return Promise.reject(aborted());
    const id = this.nextId++;
    const flag = new Int32Array(new SharedArrayBuffer(4));
    return new Promise<RecognizedSpeech>((resolve, reject) => {
      const giveUp = (): void => {
        Atomics.store(flag, 0, 1);
        this.pending.delete(id);
        reject(aborted());
      };
      signal?.addEventListener("abort", giveUp, { once: true });
      const settled = (): void => signal?.removeEventListener("abort", giveUp);
      this.pending.set(id, {
        resolve: (transcript) => (settled(), resolve(transcript)),
        reject: (error) => (settled(), reject(error)),
      });
      this.worker.postMessage({ id, audio, aborted: flag } satisfies TranscriptionRequest);
    });
  }

  /** Stops the worker; pending requests are rejected with `ABORTED`. */
  async close(): Promise<void> {
    await this.worker.terminate();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private settle(answer: Exclude<TranscriptionAnswer, { kind: "ready" }>): void {
    const request = this.pending.get(answer.id as number);
    this.pending.delete(answer.id as number);
    if (answer.kind === "done") request?.resolve(answer.transcript);
    else request?.reject(new UsmLiteError(answer.code, answer.message));
  }

  private fail(error: UsmLiteError): void {
    this.failure ??= error;
    for (const request of this.pending.values()) request.reject(error);
    this.pending.clear();
  }
}

const aborted = (): UsmLiteError => new UsmLiteError("ABORTED", "the transcription was aborted by its signal");
