/** Speech recognition as a service: starts, reloads its model, and ends without losing what it accepted. */
import { basename, resolve } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import type { Server as TlsServer } from "node:tls";
import type { FastifyInstance } from "fastify";
import { pino, type Logger } from "pino";
import { UsmLiteError } from "../errors.js";
import { defaultModelFolder } from "../models/default_model.js";
import { ApiKeys, readApiKeys, type ApiKey } from "./api_keys.js";
import { ClientAddresses } from "./client_addresses.js";
import { ConnectionLimit } from "./connection_limit.js";
import { Dispatcher } from "./engine/dispatcher.js";
import type { Engine, EngineEvents } from "./engine/engine.js";
import { startEngine } from "./engine/start_engine.js";
import { application, operationsApplication } from "./http/application.js";
import type { UploadLimits } from "./http/upload.js";
import { authorityOf, isLoopback, listenAt, readTls } from "./listening.js";
import { LogOutput } from "./log_output.js";
import { Metrics } from "./metrics.js";
import { RealtimeServer } from "./realtime/realtime_server.js";
import type { LoadedModel, Service } from "./service.js";
import { defaultModelName, resolveServeOptions, type ResolvedServeOptions, type ServeOptions } from "./serve_options.js";
import { SpoolFolder } from "./spool_folder.js";

/** How often a server that ends looks whether all is answered. */
const drainCheckMs = 20;

export type { ServeOptions } from "./serve_options.js";

/**
 * @example
 * import { Server } from "usm-lite/serve";
 * const server = await Server.start({ port: 8080 });
 * process.once("SIGTERM", () => void server.drain());
 */
export class Server implements Service, AsyncDisposable {
  readonly metrics: Metrics;
  readonly uploads: UploadLimits;
  readonly dispatcher: Dispatcher;
  draining = false;
  model: LoadedModel;
  private readonly realtime: RealtimeServer;
  private app: FastifyInstance | undefined;
  private operations: FastifyInstance | undefined;
  private readonly connections: ConnectionLimit;
  private engineBytes = 0;
  private tensorBytes = 0;
  private reloading: Promise<void> = Promise.resolve();
  private closing: Promise<void> | undefined;
  /** Aborted when it begins to end: a model that is still being loaded is not wanted any more. */
  private readonly ending = new AbortController();
  /** Engines whose model was replaced, until what they have under way is done. */
  private readonly retired = new Set<Engine>();

  private constructor(
    readonly options: ResolvedServeOptions,
    readonly log: Logger,
    private engine: Engine,
    private readonly spool: SpoolFolder,
    readonly addresses: ClientAddresses,
    readonly apiKeys: ApiKeys | undefined,
    private readonly logOutput: LogOutput,
  ) {
    const { maximumBatch, maximumQueue, recognitionTimeoutSeconds, maximumUploadBytes, uploadTimeoutSeconds } = options;
    this.model = loadedModel(options);
    this.uploads = { maximumBytes: maximumUploadBytes, timeoutSeconds: uploadTimeoutSeconds, folder: spool };
    this.dispatcher = new Dispatcher(engine, { maximumBatch, maximumQueue, timeoutMs: recognitionTimeoutSeconds * 1000 });
    this.realtime = new RealtimeServer(this);
    this.connections = new ConnectionLimit(
      options.maximumConnections,
      () => this.metrics.droppedConnections.inc(),
      () => log.warn({ connections: this.connections.open }, "connections are closed at once: as many are open as this server takes"),
    );
    this.metrics = new Metrics({
      receiving: () => this.dispatcher.receiving,
      queued: () => this.dispatcher.queued,
      active: () => this.dispatcher.active,
      streams: () => this.streams,
      connections: () => this.connections.open,
      readyWorkers: () => this.readyWorkers,
      engineBytes: () => this.engineBytes,
      tensorBytes: () => this.tensorBytes,
    });
  }

  /**
   * Resolves when requests are answered.
   * @param signal gives up while the model is loaded
   * @throws UsmLiteError what {@link loadModel} throws; FILE_NOT_FOUND, BAD_CONFIG and others for keys and certificates;
   * INVALID_ARGUMENT when the address cannot be listened on, a proxy is no address, or a time is too long; ABORTED
   */
  static async start(given: ServeOptions = {}, signal?: AbortSignal): Promise<Server> {
    const options = resolveServeOptions(given);
    const addresses = new ClientAddresses(options, (proxy) =>
      log.warn({ proxy }, "X-Forwarded-For is not believed: all who come through this proxy count as one; --trust-proxy names it"),
    );
    const keys = keysOf(options);
    const apiKeys = keys && new ApiKeys(keys);
    const output = new LogOutput(2, () => server?.metrics.droppedLogLines.inc()); // standard output is for results
    const log = pino({ name: "usm-lite", level: options.logLevel }, output);
    const spool = await SpoolFolder.make(options.spoolFolder);
    let server: Server | undefined;
    let engine: Engine | undefined;
    const events = (): EngineEvents => ({
      onReady: () => server?.dispatcher.pump(),
      onPass: ({ chunks, audioSeconds, milliseconds, tensorBytes }) => {
        if (!server) return;
        server.tensorBytes = tensorBytes;
        server.metrics.batchSize.observe(chunks);
        server.metrics.passSeconds.observe(milliseconds / 1000);
        server.metrics.networkAudioSeconds.inc(audioSeconds);
      },
      onMemory: (bytes) => server && (server.engineBytes = bytes),
      onCrash: (what, message) => {
        log.error({ what, reason: message }, "engine ended; its recordings go to another worker");
        server?.metrics.crashes.inc({ what });
      },
    });
    try {
      engine = await startEngine(options, given.language, events(), signal);
      server = new Server(options, log, engine, spool, addresses, apiKeys, output);
      const { ending } = server;
      server.newEngine = () => startEngine(options, given.language, events(), ending.signal);
      await server.listen();
      if (!apiKeys && options.tls?.clientAuthority === undefined && !isLoopback(options.host))
        log.warn({ host: options.host }, "there are no API keys: whoever reaches this address is let in");
      log.info({ url: server.url, model: server.model.name, workers: engine.readyWorkers }, "ready");
      return server;
    } catch (error) {
      server?.realtime.close();
      await server?.app?.close();
      await server?.operations?.close();
      server?.metrics.close();
      await engine?.close();
      await spool[Symbol.asyncDispose]();
      await output.flush();
      throw error;
    }
  }

  /** Where it listens, such as `http://127.0.0.1:8080`. */
  get url(): string {
    return `${this.options.tls ? "https" : "http"}://${authorityOf(this.app as FastifyInstance)}`;
  }

  /** Where health and metrics are, when they have a port of their own. */
  get metricsUrl(): string | undefined {
    return this.operations && `http://${authorityOf(this.operations)}`;
  }

  get readyWorkers(): number {
    return this.engine.readyWorkers;
  }

  get streams(): number {
    return this.realtime.active;
  }

  /** The process that holds the workers. */
  get enginePid(): number | undefined {
    return this.engine.pid;
  }

  /**
   * Loads the model folder (and the certificate and the file of API keys) again, beside the one in use, then sends new recordings to it. What is
   * under way ends where it began. When loading fails the old model stays; a server that ends loads none.
   * @throws UsmLiteError as {@link Server.start}
   */
  reload(): Promise<void> {
    this.reloading = this.reloading.catch(() => undefined).then(() => this.replaceModel());
    return this.reloading;
  }

  /** Takes no new requests, finishes those it accepted, and ends. What takes longer than the drain timeout is cut off. */
  drain(): Promise<void> {
    this.draining = true;
    return (this.closing ??= this.end(this.options.drainTimeoutSeconds * 1000));
  }

  /** Ends at once. */
  async close(): Promise<void> {
    this.draining = true;
    this.cutOff();
    await (this.closing ??= this.end(0));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private newEngine: () => Promise<Engine> = () => Promise.reject(new UsmLiteError("INTERNAL", "the server has not started"));

  private async listen(): Promise<void> {
    const tls = await readTls(this.options);
    const { host, port, metricsPort, uploadTimeoutSeconds } = this.options;
    const app = await application(this, { log: this.log, tls, requestTimeoutMs: (uploadTimeoutSeconds + 10) * 1000 });
    this.app = app;
    this.realtime.attach(app.server);
    this.connections.apply(app.server);
    if (metricsPort !== undefined) {
      this.operations = operationsApplication(this);
      await listenAt(this.operations, host, metricsPort);
    }
    await listenAt(app, host, port);
  }

  private async replaceModel(): Promise<void> {
    try {
      const tls = await readTls(this.options);
      const keys = keysOf(this.options);
      if (this.ending.signal.aborted) return;
      const engine = await this.newEngine();
      if (this.ending.signal.aborted) return await engine.close();
      if (tls) (this.app?.server as unknown as TlsServer).setSecureContext(tls);
      if (keys) this.apiKeys?.replace(keys);
      this.model = loadedModel(this.options);
      this.engine = engine;
      const old = this.dispatcher.replaceEngine(engine);
      this.metrics.reloads.inc({ result: "done" });
      this.log.info({ model: this.model.name }, "model reloaded");
      this.retired.add(old);
      void old
        .idle()
        .then(() => old.close())
        .then(() => this.retired.delete(old));
    } catch (error) {
      if (this.ending.signal.aborted && error instanceof UsmLiteError && error.code === "ABORTED") return;
      this.metrics.reloads.inc({ result: "failed" });
      this.log.error({ err: error }, "the model was not reloaded; the old one stays");
      throw error;
    }
  }

  private cutOff(): void {
    this.realtime.close();
    this.app?.server.closeAllConnections();
  }

  private async end(timeoutMs: number): Promise<void> {
    this.log.info("draining");
    this.ending.abort();
    let isCutOff = timeoutMs === 0;
    const cutOff = setTimeout(() => {
      isCutOff = true;
      this.cutOff();
    }, timeoutMs);
    let idle: NodeJS.Timeout | undefined;
    try {
      const spoken = this.realtime.drain();
      // Whoever comes meanwhile is told to go elsewhere, which is better than to be refused or reset.
      while (!isCutOff && this.dispatcher.unanswered > 0) await sleep(drainCheckMs);
      // Connections that clients keep open for later would keep the server open.
      idle = setInterval(() => this.app?.server.closeIdleConnections(), 50);
      await Promise.all([spoken, this.app?.close()]);
    } finally {
      clearInterval(idle);
      clearTimeout(cutOff);
      this.realtime.close();
      this.metrics.close();
      await this.reloading.catch(() => undefined);
      await Promise.all([this.engine, ...this.retired].map((engine) => engine.close()));
      await this.operations?.close(); // until now it has said that the server is draining
      await this.spool[Symbol.asyncDispose]();
      this.log.info("ended");
      await this.logOutput.flush();
    }
  }
}

function loadedModel({ model = defaultModelFolder, modelName, modelAliases, language }: ResolvedServeOptions): LoadedModel {
  const name = modelName ?? (model === defaultModelFolder ? defaultModelName : basename(resolve(model)));
  return { name, aliases: modelAliases.filter((alias) => alias !== name), language, created: Math.floor(Date.now() / 1000) };
}

const keysOf = ({ apiKeys }: ResolvedServeOptions): readonly ApiKey[] | undefined =>
  typeof apiKeys === "string" ? readApiKeys(apiKeys) : apiKeys;
