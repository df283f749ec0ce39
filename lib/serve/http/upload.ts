/** Receives a multipart request: its file goes to disk as it comes, so that memory does not grow with what clients send. */
import { randomUUID } from "node:crypto";
import { createWriteStream } from "node:fs";
import { rm } from "node:fs/promises";
import { join } from "node:path";
import { pipeline } from "node:stream/promises";
import type { FastifyRequest } from "fastify";
import { ServiceError } from "../service_error.js";
import type { SpoolFolder } from "../spool_folder.js";
import { notMultipart, RequestError } from "./openai_error.js";

export interface UploadLimits {
  readonly maximumBytes: number;
  readonly timeoutSeconds: number;
  readonly folder: SpoolFolder;
}

export interface Upload extends AsyncDisposable {
  /** Where the file lies until it is disposed of. */
  readonly path: string;
  /** What the client calls it. */
  readonly name: string;
  readonly bytes: number;
  /** Values by field name, `[]` at the end of the name removed. */
  readonly fields: ReadonlyMap<string, readonly string[]>;
}

const maximumFields = 300;
const maximumFieldBytes = 16 * 1024;
/** Of all fields together, which are kept in memory: more than 200 keywords of 100 letters have. */
const maximumFieldsBytes = 256 * 1024;

/** RFC 2046 allows 70 characters. */
const maximumBoundary = 200;

/** Multipart headers and the other fields come on top of the file. */
const allowanceBytes = 1 << 20;

/**
 * What can be refused before anything is received.
 * @throws RequestError 400, 413, 415
 */
export function checkUploadHeaders(request: FastifyRequest, limits: UploadLimits): void {
  if (!request.isMultipart()) throw notMultipart();
  const [, boundary = ""] = /boundary="?([^";]*)/i.exec(request.headers["content-type"] ?? "") ?? [];
  if (boundary.length > maximumBoundary) {
    throw new RequestError(
      400,
      "invalid_multipart",
      `the boundary of the multipart request has ${boundary.length} characters; at most ${maximumBoundary} are taken`,
    );
  }
  if (Number(request.headers["content-length"] ?? 0) > limits.maximumBytes + allowanceBytes) throw tooLarge(limits);
}

/** A full disk, a full quota, or no file that could be opened any more. */
const noRoom: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EMFILE", "ENFILE"]);
/** When a full disk is worth trying again. */
const fullDiskRetrySeconds = 10;

/**
 * @throws RequestError 400 (truncated, no file), 408 (too slow), 413; ServiceError storage_full
 */
export async function receiveUpload(request: FastifyRequest, limits: UploadLimits, signal: AbortSignal): Promise<Upload> {
  checkUploadHeaders(request, limits);
  const path = join(limits.folder.path, `upload-${randomUUID()}`);
  const discard = (): Promise<void> => rm(path, { force: true });
  const fields = new Map<string, string[]>();
  let fieldsBytes = 0;
  let file: { name: string; bytes: number } | undefined;
  // A timer that ends with the upload: AbortSignal.timeout would hold on to all of it until its time has come.
  const stop = new AbortController();
  let timedOut = false;
  const timer = setTimeout(() => {
    timedOut = true;
    stop.abort();
  }, limits.timeoutSeconds * 1000);
  const leave = (): void => stop.abort(signal.reason);
  signal.addEventListener("abort", leave, { once: true });
  // What waits for the next part does not hear of the signal otherwise.
  const stopped = new Promise<never>((_, reject) => {
    stop.signal.addEventListener("abort", () => reject(stop.signal.reason as Error), { once: true });
  });
  stopped.catch(() => undefined);
  const receive = async (): Promise<void> => {
    limits.folder.ensure();
    const parts = request.parts({
      limits: { fileSize: limits.maximumBytes, files: 1, fields: maximumFields, fieldSize: maximumFieldBytes },
    });
    for await (const part of parts) {
      // The parser's types do not say so.
      if ((part.fieldname as string | undefined) === undefined)
        throw new RequestError(400, "invalid_multipart", "a part of the multipart request has no name");
      if (part.type === "field") {
        if (part.valueTruncated)
          throw new RequestError(413, "field_too_large", `field ${part.fieldname} has more than ${maximumFieldBytes} bytes`);
        fieldsBytes += part.fieldname.length + Buffer.byteLength(String(part.value));
        if (fieldsBytes > maximumFieldsBytes)
          throw new RequestError(413, "too_many_fields", `the fields beside the file have more than ${maximumFieldsBytes} bytes`);
        const name = part.fieldname.replace(/\[\]$/, "");
        fields.set(name, [...(fields.get(name) ?? []), String(part.value)]);
      } else if (part.fieldname === "file") {
        let bytes = 0;
        // However much is still to come.
        if (part.file.truncated) throw tooLarge(limits);
        part.file.once("limit", () => stop.abort(tooLarge(limits)));
        part.file.on("data", (block: Buffer) => (bytes += block.length));
        await pipeline(part.file, createWriteStream(path), { signal: stop.signal });
        if (part.file.truncated) throw tooLarge(limits);
        file = { name: part.filename, bytes };
      } else {
        throw new RequestError(400, "unknown_file_field", `there is a file in field ${part.fieldname}; the audio belongs into field file`);
      }
    }
  };
  try {
    await Promise.race([receive(), stopped]);
    if (!file) throw new RequestError(400, "missing_required_parameter", "there is no file: send the audio in field file", "file");
  } catch (error) {
    await discard();
    throw uploadError(error, timedOut, limits);
  } finally {
    clearTimeout(timer);
    signal.removeEventListener("abort", leave);
  }
  return { path, ...file, fields, [Symbol.asyncDispose]: discard };
}

const tooLarge = ({ maximumBytes }: UploadLimits): RequestError =>
  new RequestError(413, "file_too_large", `the file has more than ${maximumBytes} bytes, the limit of this server`, "file");

function uploadError(error: unknown, timedOut: boolean, limits: UploadLimits): unknown {
  if (timedOut) {
    return new RequestError(408, "upload_timeout", `the request did not arrive within ${limits.timeoutSeconds} s`);
  }
  if (error instanceof RequestError) return error;
  const { code, message } = error as { code?: string; message?: string };
  if (code !== undefined && noRoom.has(code))
    return new ServiceError("storage_full", "this server has no room for the file at the moment; try again later", fullDiskRetrySeconds);
  if (code === "FST_REQ_FILE_TOO_LARGE") return tooLarge(limits);
  if (code?.startsWith("FST_") && code.endsWith("_LIMIT")) {
    return new RequestError(413, "too_many_fields", `the request has more than one file, or more than ${maximumFields} fields`);
  }
  // What the parser says of a request that ends too early or is not what its header says.
  if (code === "FST_MP_PREMATURE_CLOSE" || /form|multipart|boundary|header/i.test(message ?? "")) {
    return new RequestError(400, "invalid_multipart", `the multipart request is damaged or ends too early: ${message}`);
  }
  return error;
}
