/** What is said between a recognition worker and who asks it. */
import type { UsmLiteErrorCode } from "../errors.js";
import type { SharedMatrices } from "../models/checkpoint_weights.js";
import type { RecognizedSpeech } from "./decoding.js";
import type { BatchingOptions, PassStatistics } from "./forward_batcher.js";
import type { PartialText } from "./partial_recognition.js";
import type { RecognizerOptions, RecordingOptions } from "./recognizer_options.js";

/** A path, the bytes of an audio file, or mono samples at 16 kHz in [-1, 1]. */
export type AudioInput = string | Uint8Array | Float32Array;

/** `workerData` of a worker. */
export interface WorkerOptions extends RecognizerOptions, BatchingOptions {
  readonly model: string;
  /** Longest audio accepted, in seconds. */
  readonly maximumSeconds: number;
  /** Of what a service recognizes: told to models of several languages; the others have one of their own. */
  readonly servedLanguage?: string;
  /** Folder of adapters, one folder for each speaker. */
  readonly adapters?: string;
  /** The model's packed weights, where another worker of this process holds them. */
  readonly sharedMatrices?: SharedMatrices;
}

export interface RecordingRequest extends RecordingOptions {
  /** Send `partial` answers while the recording is recognized. */
  readonly partials?: boolean;
}

export type WorkerRequest =
  | { readonly kind: "transcribe"; readonly id: number; readonly audio: AudioInput; readonly options: RecordingRequest }
  /** A recording whose samples follow. */
  | { readonly kind: "listen"; readonly id: number; readonly options: RecordingRequest }
  | { readonly kind: "samples"; readonly id: number; readonly samples: Float32Array }
  | { readonly kind: "end"; readonly id: number }
  /** No answer follows but `failed` with `ABORTED`, unless the recording was already answered. */
  | { readonly kind: "abort"; readonly id: number };

/** The text of each token id, null for those that stand for none. */
export type Vocabulary = readonly (string | null)[];

/** First `ready`, or `failed` without id; then for each recording any number of `partial` and one `done` or `failed`. */
export type WorkerAnswer =
  | { readonly kind: "ready"; readonly sharedMatrices: SharedMatrices; readonly vocabulary: Vocabulary }
  | ({ readonly kind: "partial"; readonly id: number } & PartialText)
  | { readonly kind: "done"; readonly id: number; readonly transcript: RecognizedSpeech }
  | { readonly kind: "failed"; readonly id?: number; readonly code: UsmLiteErrorCode; readonly message: string }
  | ({ readonly kind: "pass"; readonly tensorBytes: number } & PassStatistics);
