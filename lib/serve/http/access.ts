/** Lets clients in: their key, its limits, and whether the service still takes requests. */
import type { IncomingMessage } from "node:http";
import type { FastifyInstance } from "fastify";
import type { Client } from "../api_keys.js";
import type { Service } from "../service.js";
import { ServiceError } from "../service_error.js";
import { RequestError } from "./openai_error.js";

/**
 * Who sends a request.
 * @throws RequestError 401
 */
export function clientOf(request: IncomingMessage, { apiKeys, addresses }: Pick<Service, "apiKeys" | "addresses">): Client {
  if (!apiKeys) return addresses.clientAt(addresses.of(request));
  const [scheme, key] = (request.headers.authorization ?? "").split(" ");
  const given = scheme?.toLowerCase() === "bearer" && key ? key : undefined;
  const client = given === undefined ? undefined : apiKeys.find(given);
  if (client) return client;
  const message = given === undefined ? "send an API key: Authorization: Bearer KEY" : "this API key is not valid here";
  throw new RequestError(401, "invalid_api_key", message);
}

/** Guards every route of `app` whose path begins with /v1, however a request spells it, and whatever does not exist below. */
export function guard(app: FastifyInstance, service: Service): void {
  app.addHook("onRequest", (request, reply, done) => {
    // The route that was found, not the URL: that may be absolute, or have letters in hexadecimal.
    const paths = [request.routeOptions.url ?? "", request.url];
    if (!paths.some((path) => path.startsWith("/v1/"))) return done();
    const client = clientOf(request.raw, service);
    request.notes.client = client;
    if (service.apiKeys) request.notes.address = service.addresses.of(request.raw);
    if (service.draining && request.method === "POST") {
      reply.header("connection", "close"); // the next request is to find another server
      throw new ServiceError("shutting_down", "this server is shutting down; another one takes over", 1);
    }
    const leave = client.enter();
    reply.raw.once("close", leave);
    done();
  });
}
