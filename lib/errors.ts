/** The stable codes of {@link UsmLiteError}. */
export type UsmLiteErrorCode =
  | "INVALID_ARGUMENT"
  | "TENSOR_RELEASED"
  | "OUT_OF_MEMORY"
  | "FILE_NOT_FOUND"
  | "FILE_UNREADABLE"
  | "FILE_UNWRITABLE"
  | "OUTPUT_IN_USE"
  | "ADAPTER_MISMATCH"
  | "BAD_ADAPTER"
  | "BAD_AUDIO"
  | "BAD_CHECKPOINT"
  | "BAD_CONFIG"
  | "BAD_CORPUS"
  | "BAD_MANIFEST"
  | "BAD_RECIPE"
  | "BAD_TOKENIZER"
  | "BAD_LANGUAGE_MODEL"
  | "UNKNOWN_SPEAKER"
  | "UNSUPPORTED_MODEL"
  | "SERVICE_UNREACHABLE"
  | "NO_GPU"
  | "DRIVER_TOO_OLD"
  | "GPU_FAILED"
  | "UNSUPPORTED_SPEC"
  | "AUDIO_TOO_LONG"
  | "DOWNLOAD_FAILED"
  | "TRAINING_DIVERGED"
  | "ABORTED"
  | "INTERNAL";

/** Sentences that quote a file or a request must not be as long as it is. */
const maximumMessageLength = 2000;

const shortened = (message: string): string =>
  message.length > maximumMessageLength ? `${message.slice(0, maximumMessageLength)}...` : message;

/**
 * The one error class of this package. `code` is stable and meant for programs; `message` says what is wrong and what
 * would be right, and names the file (and line) where there is one.
 *
 * @example
 * try {
 *   await transcriber.transcribe("speech.flac");
 * } catch (error) {
 *   if (error instanceof UsmLiteError && error.code === "BAD_AUDIO") console.error(error.message);
 *   else throw error;
 * }
 */
export class UsmLiteError extends Error {
  override readonly name = "UsmLiteError";

  constructor(
    readonly code: UsmLiteErrorCode,
    message: string,
    options?: ErrorOptions,
  ) {
    super(shortened(message), options);
  }
}

/** What ended a worker thread, as it was thrown there: classes do not survive the way between threads. */
export function errorOfWorker(error: Error & { readonly code?: unknown }): Error {
  if (error.name === "UsmLiteError") return new UsmLiteError(error.code as UsmLiteErrorCode, error.message, { cause: error });
  return scarcityOf(error) ?? error;
}

/** The coded error for what the system refuses while Node.js loads code or starts a thread; undefined for any other. */
export function scarcityOf(error: Error & { readonly code?: unknown }): UsmLiteError | undefined {
  const { message, code } = error;
  if (/\b(EMFILE|ENFILE)\b/.test(message)) {
    const advice = "allow the process more open files (ulimit -n), 1024 are enough";
    return new UsmLiteError("FILE_UNREADABLE", `${message}; ${advice}`, { cause: error });
  }
  if (code === "ERR_WORKER_OUT_OF_MEMORY" || /^Worker initialization failure: (EAGAIN|ENOMEM)/.test(message)) {
    return new UsmLiteError("OUT_OF_MEMORY", `a thread cannot run: ${message}`, { cause: error });
  }
  return undefined;
}
