/** Accepts WebSocket connections to `/v1/realtime`, as many as allowed. */
import { STATUS_CODES, type IncomingMessage, type Server as HttpServer } from "node:http";
import type { Duplex } from "node:stream";
import { WebSocketServer, type WebSocket } from "ws";
import { clientOf } from "../http/access.js";
import { countRefusal } from "../http/error_handling.js";
import { errorResponse, RequestError, type ErrorResponse } from "../http/openai_error.js";
import type { Service } from "../service.js";
import { ServiceError } from "../service_error.js";
import { RealtimeSession } from "./realtime_session.js";

const largestMessageBytes = 4 * 2 ** 20;
/** A connection that does not answer a ping until the next one is dead. */
const pingMs = 30_000;
/** How often it is looked for connections without audio. */
const idleCheckMs = 1000;
/** How browsers, which cannot set headers, say their key: a subprotocol, as in OpenAI's API. */
const keyProtocol = "openai-insecure-api-key.";

export class RealtimeServer {
  private readonly sockets = new WebSocketServer({
    noServer: true,
    maxPayload: largestMessageBytes,
    handleProtocols: (protocols) => (protocols.has("realtime") ? "realtime" : false),
  });
  private readonly sessions = new Map<WebSocket, RealtimeSession>();
  private readonly timers: readonly NodeJS.Timeout[];

  constructor(private readonly service: Service) {
    this.timers = [setInterval(() => this.ping(), pingMs), setInterval(() => this.endIdle(), idleCheckMs)];
  }

  /** Connections that are open. */
  get active(): number {
    return this.sessions.size;
  }

  attach(server: HttpServer): void {
    server.on("upgrade", (request, socket, head) => {
      if (request.headers.upgrade?.toLowerCase() !== "websocket") return goOnWithoutUpgrade(server, request, socket, head);
      socket.on("error", () => socket.destroy());
      try {
        this.upgrade(request, socket, head);
      } catch (error) {
        const response = errorResponse(error);
        countRefusal(response, this.service);
        refuse(socket, response);
      }
    });
  }

  /** Answers what was said so far, then closes every connection. */
  async drain(): Promise<void> {
    await Promise.all([...this.sessions.values()].map((session) => session.drain()));
  }

  close(): void {
    this.timers.forEach(clearInterval);
    for (const socket of this.sessions.keys()) socket.terminate();
    this.sockets.close();
  }

  private upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
    const path = (request.url ?? "").split("?")[0];
    if (path !== "/v1/realtime") throw new RequestError(404, "unknown_url", `there is no WebSocket at ${path}; /v1/realtime is one`);
    const client = clientOf(withKeyOfProtocol(request), this.service);
    if (this.service.draining) throw new ServiceError("shutting_down", "this server is shutting down; another one takes over", 1);
    const { maximumStreams } = this.service.options;
    if (this.sessions.size >= maximumStreams) {
      throw new ServiceError("too_many_streams", `${maximumStreams} streams are open, which is as many as this server takes`, 5);
    }
    const leave = client.enter("streams");
    socket.once("close", leave);
    this.sockets.handleUpgrade(request, socket, head, (webSocket) => {
      webSocket.on("error", () => webSocket.terminate()); // a message too large, or not WebSocket
      webSocket.on("pong", () => this.answered.add(webSocket));
      this.answered.add(webSocket);
      const session = new RealtimeSession(webSocket, client, this.service);
      this.sessions.set(webSocket, session);
      const begin = performance.now();
      webSocket.on("close", (code) => {
        this.sessions.delete(webSocket);
        const { id, turns, audioSeconds } = session;
        this.service.log.info(
          { session: id, client: client.name, code, seconds: (performance.now() - begin) / 1000, turns, audioSeconds },
          "session",
        );
      });
    });
  }

  /** Who forgot a connection must not keep a place from who wants to speak. */
  private endIdle(): void {
    const { streamTimeoutSeconds } = this.service.options;
    for (const [socket, { silentSeconds }] of this.sessions) {
      if (silentSeconds > streamTimeoutSeconds) socket.close(1000, `no audio came for ${streamTimeoutSeconds} s`);
    }
  }

  private readonly answered = new WeakSet<WebSocket>();

  private ping(): void {
    for (const [socket, session] of this.sessions) {
      if (this.answered.delete(socket)) socket.ping();
      else if (!socket.isPaused || session.isClogged) socket.terminate();
    }
  }
}

/** Names that ask for the upgrade, as headers and in what `Connection` lists. */
const upgradeNames: readonly string[] = ["upgrade", "http2-settings"];
const asksForUpgrade = (name: string): boolean => upgradeNames.includes(name.trim().toLowerCase());

/**
 * A protocol that a server does not speak is no error, it answers as if it had not been asked for (RFC 9110, section 7.8): clients offer
 * HTTP/2 so. Node.js takes a connection out of its parser for any, so it is told to begin anew with the same request.
 */
function goOnWithoutUpgrade(server: HttpServer, request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const { method, url, httpVersion, rawHeaders } = request;
  const lines = [`${method} ${url} HTTP/${httpVersion}`];
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const [name, value] = [rawHeaders[i] as string, rawHeaders[i + 1] as string];
    if (asksForUpgrade(name)) continue;
    const listed = value.split(",").filter((one) => !asksForUpgrade(one));
    lines.push(`${name}: ${name.toLowerCase() === "connection" ? listed.join(",") : value}`);
  }
  socket.unshift(Buffer.concat([Buffer.from(`${lines.join("\r\n")}\r\n\r\n`, "latin1"), head]));
  server.emit("encrypted" in socket ? "secureConnection" : "connection", socket);
}

function withKeyOfProtocol(request: IncomingMessage): IncomingMessage {
  const protocols = (request.headers["sec-websocket-protocol"] ?? "").split(",").map((name) => name.trim());
  const key = protocols.find((name) => name.startsWith(keyProtocol))?.slice(keyProtocol.length);
  if (key !== undefined) request.headers.authorization ??= `Bearer ${key}`;
  return request;
}

function refuse(socket: Duplex, { status, body, retryAfterSeconds }: ErrorResponse): void {
  const text = JSON.stringify(body);
  const retry = retryAfterSeconds === undefined ? "" : `Retry-After: ${retryAfterSeconds}\r\n`;
  const head = `HTTP/1.1 ${status} ${STATUS_CODES[status]}\r\nConnection: close\r\nContent-Type: application/json\r\n`;
  socket.end(`${head}${retry}Content-Length: ${Buffer.byteLength(text)}\r\n\r\n${text}`);
}
