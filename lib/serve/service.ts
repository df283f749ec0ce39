/** What the routes share: the model that is served, the way to its workers, and what was measured. */
import type { FastifyBaseLogger } from "fastify";
import type { ApiKeys, Client } from "./api_keys.js";
import type { ClientAddresses } from "./client_addresses.js";
import type { Dispatcher, JobReport } from "./engine/dispatcher.js";
import type { ServedModel } from "./http/transcription_request.js";
import type { UploadLimits } from "./http/upload.js";
import type { Metrics } from "./metrics.js";
import type { ResolvedServeOptions } from "./serve_options.js";

export interface LoadedModel extends ServedModel {
  /** Seconds since 1970 at which it was loaded. */
  readonly created: number;
}

export interface Service {
  readonly options: ResolvedServeOptions;
  readonly dispatcher: Dispatcher;
  readonly metrics: Metrics;
  /** Everyone is let in when there are none. */
  readonly apiKeys: ApiKeys | undefined;
  readonly addresses: ClientAddresses;
  readonly uploads: UploadLimits;
  readonly log: FastifyBaseLogger;
  /** Changes when the model is reloaded. */
  readonly model: LoadedModel;
  /** What was accepted is finished, nothing new is accepted. */
  readonly draining: boolean;
  /** Workers that can take work. */
  readonly readyWorkers: number;
  /** Connections that stream audio. */
  readonly streams: number;
}

/** What the log says about a request beside its status. */
export interface RequestNotes {
  client?: Client;
  /** Of a client that is known by its key. */
  address?: string;
  /** Status of an answer that was written although the request was still being sent. */
  answered?: number;
  audioSeconds?: number;
  job?: JobReport;
  transcript?: string;
}

declare module "fastify" {
  interface FastifyRequest {
    notes: RequestNotes;
  }
}
