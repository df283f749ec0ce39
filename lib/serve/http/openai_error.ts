/** Errors in the shape of OpenAI's API: `{"error": {"message", "type", "param", "code"}}`, with the status that says the same. */
import { UsmLiteError, type UsmLiteErrorCode } from "../../errors.js";
import { ServiceError, type ServiceErrorCode } from "../service_error.js";

export interface OpenAiErrorBody {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string | null };
}

/** A response that is an error. */
export interface ErrorResponse {
  readonly status: number;
  readonly body: OpenAiErrorBody;
  readonly retryAfterSeconds?: number;
}

/** A request that something is wrong with. */
export class RequestError extends Error {
  override readonly name = "RequestError";

  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    /** The field that is wrong. */
    readonly param: string | null = null,
  ) {
    super(message);
  }
}

/** Of a transcription that is asked for in another way than as a form. */
export const notMultipart = (): RequestError =>
  new RequestError(415, "unsupported_content_type", "send the audio as multipart/form-data, in a field called file");

const serviceStatus: Record<ServiceErrorCode, number> = {
  queue_full: 429,
  too_many_streams: 429,
  rate_limit_exceeded: 429,
  too_many_concurrent_requests: 429,
  shutting_down: 503,
  storage_full: 503,
  recognition_timeout: 504,
  worker_lost: 500,
};

/** Errors of recognition that are the recording's or the request's fault. */
const recordingStatus: Partial<Record<UsmLiteErrorCode, { status: number; code: string; param: string }>> = {
  BAD_AUDIO: { status: 400, code: "invalid_audio", param: "file" },
  AUDIO_TOO_LONG: { status: 413, code: "audio_too_long", param: "file" },
  INVALID_ARGUMENT: { status: 400, code: "invalid_value", param: "keywords" },
  UNKNOWN_SPEAKER: { status: 404, code: "speaker_not_found", param: "speaker" },
};

/** Adapters that the server has but cannot use; the log says why. */
const unusableAdapter: ReadonlySet<UsmLiteErrorCode> = new Set(["BAD_ADAPTER", "ADAPTER_MISMATCH"]);

const typeOf = (status: number): string => {
  if (status === 401) return "authentication_error";
  if (status === 429) return "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
};

const response = (status: number, code: string | null, message: string, param: string | null = null): ErrorResponse => ({
  status,
  body: { error: { message, type: typeOf(status), param, code } },
});

/** What to answer when `error` was thrown. Of what nobody foresaw, the client learns nothing but that it happened. */
export function errorResponse(error: unknown): ErrorResponse {
  if (error instanceof RequestError) return response(error.status, error.code, error.message, error.param);
  if (error instanceof ServiceError) {
    const { code, message, retryAfterSeconds } = error;
    return { ...response(serviceStatus[code], code, message), ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }) };
  }
  if (error instanceof UsmLiteError) {
    const known = recordingStatus[error.code];
    if (known) return response(known.status, known.code, error.message, known.param);
    if (unusableAdapter.has(error.code))
      return response(500, "adapter_unusable", "the adapter of this speaker cannot be used with the model that is served", "speaker");
  }
  const { statusCode, message, code } = error as { statusCode?: number; message?: string; code?: string };
  if (code === "FST_ERR_CTP_INVALID_MEDIA_TYPE") return errorResponse(notMultipart()); // the one body that is taken is that form
  if (statusCode !== undefined && statusCode >= 400 && statusCode < 500) {
    return response(statusCode, code?.toLowerCase() ?? null, message ?? "the request is not valid");
  }
  return response(500, "internal_error", "the server failed to handle this request; its log says why");
}
