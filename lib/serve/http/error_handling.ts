/** Whatever goes wrong becomes a response in OpenAI's shape. */
import type { Socket } from "node:net";
import type { FastifyInstance, FastifyReply, FastifyRequest } from "fastify";
import { UsmLiteError } from "../../errors.js";
import type { Service } from "../service.js";
import { errorResponse, RequestError, type ErrorResponse } from "./openai_error.js";

/** A client that still sends what nobody wants gets so long to read why. */
const lingerMs = 5000;

/** @param routes what there is, for those who ask for anything else */
export function handleErrors(app: FastifyInstance, service: Service, routes: string): void {
  app.setErrorHandler((error, request, reply) => {
    const response = errorResponse(error);
    const { status, body } = response;
    if (reply.raw.destroyed || isAbandoned(error)) return; // the client has gone
    if (status >= 500 && body.error.code !== "shutting_down") request.log.error({ err: error }, "request failed");
    countRefusal(response, service);
    send(request, reply, response);
  });
  app.setNotFoundHandler((request, reply) => {
    const message = `there is no ${request.method} ${pathOf(request)} here; there are ${routes}`;
    const error = new RequestError(404, "unknown_url", message);
    send(request, reply, errorResponse(error));
  });
}

/** Of addresses for which no route is even looked for, and no hook runs: letters in hexadecimal that are none, or hundreds where a name belongs. */
export function answerNoAddress(request: FastifyRequest, reply: FastifyReply): void {
  request.notes = {};
  reply.header("x-request-id", request.id);
  send(request, reply, errorResponse(new RequestError(404, "unknown_url", `"${pathOf(request)}" is no address of this server`)));
}

const pathOf = ({ url }: FastifyRequest): string => (url.split("?")[0] as string).slice(0, 100);

/** Of requests that this server does not take, now or at all. */
export function countRefusal({ status, body }: ErrorResponse, { metrics }: Pick<Service, "metrics">): void {
  if (status === 429 || status === 413 || status === 503) metrics.rejected.inc({ code: body.error.code ?? "unknown" });
}

/** Nothing else ends a request so. */
const isAbandoned = (error: unknown): boolean => error instanceof UsmLiteError && error.code === "ABORTED";

function send(request: FastifyRequest, reply: FastifyReply, { status, body, retryAfterSeconds }: ErrorResponse): void {
  if (status === 401) reply.header("www-authenticate", "Bearer");
  if (retryAfterSeconds !== undefined) reply.header("retry-after", retryAfterSeconds);
  const idle = request.raw.complete || ((request.headers["content-length"] ?? "0") === "0" && !request.headers["transfer-encoding"]);
  if (idle) return void reply.status(status).send(body);
  // The request is still being sent. To close the connection now would reset it, and the answer might be lost with it: the
  // answer is written whole, and the rest of the request read and dropped for a while.
  const { raw } = reply;
  const text = JSON.stringify(body);
  reply.hijack();
  raw.writeHead(status, {
    ...(reply.getHeaders() as Record<string, string>),
    "content-type": "application/json; charset=utf-8",
    "content-length": Buffer.byteLength(text),
    connection: "close",
  });
  raw.write(text);
  request.notes.answered = status;
  const end = (): void => {
    clearTimeout(timer);
    raw.end();
  };
  const timer = setTimeout(end, status === 408 ? 0 : lingerMs);
  raw.once("close", () => clearTimeout(timer));
  request.raw.unpipe();
  request.raw.once("end", end).once("error", end).resume();
}

/** Answers what is not even HTTP, or does not come to an end; see `clientErrorHandler` of Fastify. */
export function onClientError(error: NodeJS.ErrnoException, socket: Socket): void {
  if (error.code === "ECONNRESET" || socket.destroyed) return;
  const [status, reason, code] =
    error.code === "ERR_HTTP_REQUEST_TIMEOUT"
      ? [408, "Request Timeout", "request_timeout"]
      : error.code === "HPE_HEADER_OVERFLOW"
        ? [431, "Request Header Fields Too Large", "headers_too_large"]
        : [400, "Bad Request", "malformed_request"];
  const body = JSON.stringify(
    errorResponse(new RequestError(status as number, code as string, `the request is not valid HTTP: ${reason}`)).body,
  );
  if (socket.writable) {
    const head = `HTTP/1.1 ${status} ${reason}\r\nContent-Type: application/json; charset=utf-8\r\nContent-Length: ${Buffer.byteLength(body)}`;
    socket.write(`${head}\r\nConnection: close\r\n\r\n${body}`);
  }
  socket.destroySoon();
}
