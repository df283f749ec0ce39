/** What can be asked about the service: its model, its health, its metrics. */
import type { FastifyInstance } from "fastify";
import type { LoadedModel, Service } from "../service.js";
import { checkModel } from "./transcription_request.js";

const modelObject = (id: string, { created }: LoadedModel) => ({ id, object: "model", created, owned_by: "usm-lite" });

export function modelRoutes(app: FastifyInstance, service: Service): void {
  app.get("/v1/models", () => ({
    object: "list",
    data: [service.model.name, ...service.model.aliases].map((id) => modelObject(id, service.model)),
  }));
  app.get<{ Params: { id: string } }>("/v1/models/:id", ({ params }) => {
    checkModel(params.id, service.model);
    return modelObject(params.id, service.model);
  });
}

/** `live`: the process is not stuck. `ready`: send requests here. */
export function healthRoutes(app: FastifyInstance, service: Service): void {
  app.get("/health/live", () => ({ status: "live" }));
  app.get("/health/ready", (_, reply) => {
    const status = service.draining ? "draining" : service.readyWorkers === 0 ? "no worker is ready" : "ready";
    return reply.status(status === "ready" ? 200 : 503).send({ status });
  });
}

export function metricsRoute(app: FastifyInstance, { metrics }: Service): void {
  app.get("/metrics", async (_, reply) => reply.type(metrics.contentType).send(await metrics.text()));
}
