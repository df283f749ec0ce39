/** Why the service refuses or gives up a request that nothing is wrong with in itself. */

/** Stable; the `code` of error responses. */
export type ServiceErrorCode =
  | "queue_full"
  | "too_many_streams"
  | "rate_limit_exceeded"
  | "too_many_concurrent_requests"
  | "shutting_down"
  | "storage_full"
  | "recognition_timeout"
  | "worker_lost";

export class ServiceError extends Error {
  override readonly name = "ServiceError";

  constructor(
    readonly code: ServiceErrorCode,
    message: string,
    /** When it is worth trying again. */
    readonly retryAfterSeconds?: number,
  ) {
    super(message);
  }
}
