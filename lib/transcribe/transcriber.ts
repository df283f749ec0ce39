/** Transcription off the event loop: a worker thread holds the model, the caller awaits. */
import { Worker } from "node:worker_threads";
import { errorOfWorker, UsmLiteError } from "../errors.js";
import { checkOptionNames, type OptionNames } from "../known_options.js";
import { defaultModelFolder } from "../models/default_model.js";
import type { RecognizedSpeech } from "./decoding.js";
import { batchingOptionNames, type BatchingOptions } from "./forward_batcher.js";
import type { PartialText } from "./partial_recognition.js";
import { recognizerOptionNames, type RecognizerOptions, type RecordingOptions } from "./recognizer_options.js";
import type { AudioInput, RecordingRequest, WorkerAnswer, WorkerOptions, WorkerRequest } from "./worker_messages.js";

export type { AudioInput } from "./worker_messages.js";

/** Longer audio is refused unless `maximumSeconds` allows it: a guard against input without end, not a matter of memory. */
export const defaultMaximumHours = 4;

/** What a {@link Transcriber} is told when it is loaded. */
export interface TranscriberOptions extends RecognizerOptions, BatchingOptions {
  /** Model folder; the model of this package when absent. */
  readonly model?: string;
  /** Folder of adapters, one folder for each speaker, that {@link RecordingOptions.speaker} chooses among. */
  readonly adapters?: string;
  /** Longest audio accepted, in seconds; {@link defaultMaximumHours} when absent, Infinity for no limit. */
  readonly maximumSeconds?: number;
}

const transcriberOptionNames: OptionNames<TranscriberOptions> = {
  model: true,
  adapters: true,
  maximumSeconds: true,
  ...recognizerOptionNames,
  ...batchingOptionNames,
};

/** What one transcription may ask for. */
export interface TranscribeOptions extends RecordingOptions {
  /** Gives up: the promise rejects at once with `ABORTED`, and the worker leaves the recording at the next chunk. */
  readonly signal?: AbortSignal;
}

const transcribeOptionNames: OptionNames<TranscribeOptions> = { hotwords: true, speaker: true, signal: true };

/** What {@link Transcriber.stream} yields: text that grows, and last of all the transcript. */
export type StreamedText =
  ({ readonly final: false } & PartialText) | { readonly final: true; readonly text: string; readonly transcript: RecognizedSpeech };

interface Pending {
  onPartial?(partial: PartialText): void;
  resolve(transcript: RecognizedSpeech): void;
  reject(error: Error): void;
}

/**
 * Holds one model in a worker thread. Requests that overlap share passes of the network; no result depends on that.
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
   * @throws UsmLiteError as {@link loadModel} does; for an adapter FILE_NOT_FOUND, BAD_ADAPTER, ADAPTER_MISMATCH
   */
  static async load(options: TranscriberOptions = {}): Promise<Transcriber> {
    checkOptionNames("Transcriber.load", options, transcriberOptionNames);
    const workerData: WorkerOptions = {
      ...options,
      model: options.model ?? defaultModelFolder,
      maximumSeconds: options.maximumSeconds ?? defaultMaximumHours * 3600,
    };
    const worker = new Worker(new URL("./transcription_worker.js", import.meta.url), { workerData });
    const transcriber = new Transcriber(worker);
    await new Promise<void>((resolve, reject) => {
      worker.on("message", (answer: WorkerAnswer) => {
        if (answer.kind === "ready") resolve();
        else if (answer.kind === "failed" && answer.id === undefined) reject(new UsmLiteError(answer.code, answer.message));
        else transcriber.receive(answer);
      });
      worker.on("error", (thrown: Error) => {
        const error = errorOfWorker(thrown); // a coded one when the addon does not load
        const failure =
          error instanceof UsmLiteError
            ? error
            : new UsmLiteError("INTERNAL", `the transcription worker failed: ${error.message}`, { cause: error });
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
   * @throws UsmLiteError BAD_AUDIO, FILE_NOT_FOUND, FILE_UNREADABLE, AUDIO_TOO_LONG, INVALID_ARGUMENT, ABORTED; for a speaker
   *   UNKNOWN_SPEAKER, BAD_ADAPTER, ADAPTER_MISMATCH
   */
  async transcribe(audio: AudioInput, options: TranscribeOptions = {}): Promise<RecognizedSpeech> {
    const { signal, ...recording } = checkedOptions("transcribe", options);
    return this.request((id) => ({ kind: "transcribe", id, audio, options: recording }), signal).result;
  }

  /**
   * Recognizes speech while it arrives: partial texts while `blocks` go on, each beginning with the one before, and in
   * the end the transcript, the same as {@link Transcriber.transcribe} gives for all samples. It is not bound to begin
   * with the partial texts: those were computed with less context.
   *
   * @param blocks mono samples at 16 kHz in [-1, 1], in blocks of any length
   * @throws UsmLiteError BAD_AUDIO for samples that are not finite, INVALID_ARGUMENT, ABORTED; for a speaker as
   *   {@link Transcriber.transcribe}; and whatever `blocks` throws
   */
  async *stream(
    blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>,
    options: TranscribeOptions = {},
  ): AsyncGenerator<StreamedText, void, undefined> {
    const { signal, ...recording } = checkedOptions("stream", options);
    const partials: PartialText[] = [];
    let wake: () => void = () => undefined;
    const onPartial = (partial: PartialText): void => (partials.push(partial), wake());
    const listen = (id: number): WorkerRequest => ({
      kind: "listen",
      id,
      options: { ...recording, partials: true } satisfies RecordingRequest,
    });
    const { id, result, abort } = this.request(listen, signal, onPartial);
    let transcript: RecognizedSpeech | undefined;
    let failure: { error: unknown } | undefined;
    const failed = (error: unknown): void => (abort(), (failure ??= { error }), wake());
    result.then((speech) => ((transcript = speech), wake()), failed);
    this.send(id, blocks, () => failure !== undefined).catch(failed);
    try {
      for (;;) {
        if (failure) throw failure.error;
        const partial = partials.shift();
        if (partial) yield { final: false, ...partial };
        else if (transcript) return void (yield { final: true, text: transcript.text, transcript });
        else await new Promise<void>((resolve) => (wake = resolve));
      }
    } finally {
      if (!transcript) abort();
    }
  }

  /** Stops the worker; pending requests are rejected with `ABORTED`. */
  async close(): Promise<void> {
    await this.worker.terminate();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async send(id: number, blocks: AsyncIterable<Float32Array> | Iterable<Float32Array>, stopped: () => boolean): Promise<void> {
    for await (const samples of blocks) {
      if (stopped()) return;
      if (!(samples instanceof Float32Array)) {
        throw new UsmLiteError("INVALID_ARGUMENT", `stream takes blocks of samples, each a Float32Array, not ${typeof samples}`);
      }
      this.post({ kind: "samples", id, samples });
    }
    this.post({ kind: "end", id });
  }

  private request(
    message: (id: number) => WorkerRequest,
    signal: AbortSignal | undefined,
    onPartial?: (partial: PartialText) => void,
  ): { id: number; result: Promise<RecognizedSpeech>; abort: () => void } {
    const id = this.nextId++;
    let abort = (): void => undefined;
    const result = new Promise<RecognizedSpeech>((resolve, reject) => {
      if (this.failure) return reject(this.failure);
      if (signal?.aborted) return reject(aborted());
      abort = () => {
        if (!this.pending.delete(id)) return;
        this.post({ kind: "abort", id });
        settled();
        reject(aborted());
      };
      const settled = (): void => signal?.removeEventListener("abort", abort);
      signal?.addEventListener("abort", abort, { once: true });
      this.pending.set(id, {
        ...(onPartial ? { onPartial } : {}),
        resolve: (transcript) => (settled(), resolve(transcript)),
        reject: (error) => (settled(), reject(error)),
      });
      this.post(message(id));
    });
    return { id, result, abort: () => abort() };
  }

  private post(request: WorkerRequest): void {
    this.worker.postMessage(request);
  }

  private receive(answer: WorkerAnswer): void {
    if (answer.kind === "ready" || answer.kind === "pass") return;
    const request = this.pending.get(answer.id as number);
    if (answer.kind === "partial") return request?.onPartial?.(answer);
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

/** @throws UsmLiteError INVALID_ARGUMENT for an option that does not exist */
function checkedOptions(taker: string, options: TranscribeOptions): TranscribeOptions {
  checkOptionNames(taker, options, transcribeOptionNames);
  return options;
}

const aborted = (): UsmLiteError => new UsmLiteError("ABORTED", "the transcription was aborted by its signal");
