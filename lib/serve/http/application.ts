/** The HTTP side of the service: Fastify with its limits, hooks and routes. */
import { randomUUID } from "node:crypto";
import type { IncomingHttpHeaders } from "node:http";
import multipart from "@fastify/multipart";
import fastify, { LogController, type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest } from "fastify";
import type { Service } from "../service.js";
import { guard } from "./access.js";
import { limitDelivery } from "./delivery.js";
import { answerNoAddress, handleErrors, onClientError } from "./error_handling.js";
import { healthRoutes, metricsRoute, modelRoutes } from "./information_routes.js";
import { statusPage } from "./status_page.js";
import { transcriptionRoute } from "./transcription_route.js";

/** Milliseconds in which the headers of a request must have arrived. */
const headersTimeoutMs = 15_000;
/** How often connections are checked for that. */
const connectionsCheckingMs = 2000;
/** Longest pause between requests of a connection: longer than the minute after which balancers give theirs up, or they would meet closed ones. */
const keepAliveTimeoutMs = 75_000;

export interface ApplicationOptions {
  readonly log: FastifyBaseLogger;
  /** PEM texts. */
  readonly tls: { readonly cert: string; readonly key: string; readonly ca?: string; readonly requestCert?: boolean } | undefined;
  readonly requestTimeoutMs: number;
}

export async function application(service: Service, { log, tls, requestTimeoutMs }: ApplicationOptions): Promise<FastifyInstance> {
  // The upload has a time limit of its own that answers better; this one is for what never gets so far.
  const timeouts = { headersTimeout: headersTimeoutMs, connectionsCheckingInterval: connectionsCheckingMs };
  const tlsTimeouts = { ...timeouts, handshakeTimeout: headersTimeoutMs };
  const app = fastify({
    loggerInstance: log,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: requestId,
    requestTimeout: requestTimeoutMs,
    keepAliveTimeout: keepAliveTimeoutMs,
    return503OnClosing: false,
    clientErrorHandler: onClientError,
    frameworkErrors: (_error, request, reply) => answerNoAddress(request as FastifyRequest, reply as FastifyReply),
    ...(tls ? { https: { ...tls, ...tlsTimeouts } } : { http: timeouts }),
  }) as unknown as FastifyInstance;
  const withMetrics = service.options.metricsPort === undefined;
  app.decorateRequest("notes");
  observe(app, service); // before others may refuse a request, so that its answer has an id and the log a line
  guard(app, service);
  const probes = `GET /health/live, /health/ready${withMetrics ? ", /metrics" : ""} and /status`;
  handleErrors(app, service, `POST /v1/audio/transcriptions, GET /v1/models, a WebSocket at /v1/realtime, and ${probes}`);
  app.removeAllContentTypeParsers(); // JSON and text are no forms: they are refused as what they are, before they are read
  await app.register(multipart);
  transcriptionRoute(app, service);
  modelRoutes(app, service);
  healthRoutes(app, service);
  if (withMetrics) metricsRoute(app, service);
  statusPage(app, service);
  return app;
}

/** Health and metrics on a port of their own, which is not shared with clients and their connections. */
export function operationsApplication(service: Service): FastifyInstance {
  const app = fastify({ http: { headersTimeout: headersTimeoutMs, connectionsCheckingInterval: connectionsCheckingMs } });
  app.decorateRequest("notes");
  handleErrors(app, service, "GET /health/live, /health/ready and /metrics");
  healthRoutes(app, service);
  metricsRoute(app, service);
  return app;
}

/** What whoever passed the request on calls it, so that its log and ours can be told together. */
function requestId({ headers }: { readonly headers: IncomingHttpHeaders }): string {
  const given = headers["x-request-id"];
  return typeof given === "string" && /^[\w.:-]{1,128}$/.test(given) ? given : randomUUID();
}

/** Of requests whose client went away before it had its answer, as proxies log it. */
const abandonedStatus = 499;

/** One line of log and one count for every request. What was said is in neither. */
function observe(app: FastifyInstance, { metrics }: Service): void {
  const recorded = new WeakSet<FastifyRequest>(); // answers may be finished after their connection was closed
  const record = (request: FastifyRequest, reply: FastifyReply, status: number): void => {
    if (recorded.has(request)) return;
    recorded.add(request);
    const route = request.routeOptions.url ?? "unknown";
    const seconds = reply.elapsedTime / 1000;
    metrics.requests.inc({ route, status: String(status) });
    if (route === "/v1/audio/transcriptions") metrics.requestSeconds.observe({ route }, seconds);
    const quiet = route.startsWith("/health") || route === "/metrics" || route === "/status";
    const { client, answered: _, ...notes } = request.notes;
    request.log[quiet ? "debug" : "info"]({ route, method: request.method, status, seconds, client: client?.name, ...notes }, "request");
  };
  app.addHook("onRequest", (request, reply, done) => {
    request.notes = {};
    reply.header("x-request-id", request.id);
    reply.raw.once("close", () => {
      if (!reply.raw.writableFinished) record(request, reply, request.notes.answered ?? abandonedStatus);
    });
    done();
  });
  app.addHook("onSend", (_request, reply, _payload, done) => {
    limitDelivery(reply.raw);
    done();
  });
  app.addHook("onResponse", (request, reply, done) => {
    record(request, reply, reply.raw.statusCode);
    done();
  });
}
