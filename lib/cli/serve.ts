/** `usm-lite serve`: the HTTP and WebSocket service, until SIGTERM. */
import { Command, Option } from "commander";
import { UsmLiteError } from "../errors.js";
import type { Server as ServerType } from "../serve/server.js";
import { defaultModelName, serveDefaults, shortestApiKey, type ServeOptions } from "../serve/serve_options.js";
import {
  arithmeticOption,
  batchInvariantOption,
  deviceOption,
  languageOption,
  modelOption,
  nonNegativeNumber,
  portNumber,
  positiveInteger,
  positiveNumber,
  repeated,
} from "./options.js";

interface CommandOptions {
  model: string;
  adapters?: string;
  device: "auto" | "cpu" | "cuda";
  arithmetic: "bfloat16" | "int8";
  batchInvariant: boolean;
  modelName?: string;
  modelAlias?: string[];
  language?: string;
  host: string;
  port: number;
  metricsPort?: number;
  apiKeys?: string;
  tlsCert?: string;
  tlsKey?: string;
  tlsClientCa?: string;
  workers?: number;
  threads?: number;
  maxBatch: number;
  maxWaitMs: number;
  maxQueue: number;
  maxStreams: number;
  maxPerAddress: number;
  maxStreamsPerAddress: number;
  maxConnections: number;
  trustProxy: string[];
  streamTimeout: number;
  maxUploadMb: number;
  maxHours: number;
  uploadTimeout: number;
  recognitionTimeout: number;
  drainTimeout: number;
  decoder?: "greedy" | "beam";
  beam?: number;
  spool?: string;
  logLevel: "silent" | "error" | "warn" | "info" | "debug";
  logTranscripts?: boolean;
}

export function serveCommand(): Command {
  const { maximumUploadBytes, maximumAudioSeconds } = serveDefaults;
  return new Command("serve")
    .description("Serve speech recognition over HTTP and WebSocket, with the interface of OpenAI's API.")
    .addOption(modelOption())
    .addOption(deviceOption())
    .addOption(arithmeticOption())
    .addOption(batchInvariantOption())
    .option("--adapters <folder>", "adapters of speakers, one folder for each, read when a request names its speaker")
    .option(
      "--model-name <name>",
      `what clients call the model; default: the name of its folder, ${defaultModelName} for the model of this package`,
    )
    .option("--model-alias <name>", `another name for it, any number of times; default: ${serveDefaults.modelAliases.join(", ")}`, repeated)
    .addOption(
      languageOption(
        `ISO 639-1 code of what requests may ask for (default: ${serveDefaults.language}); ` +
          "of a model of one language a label, which is not checked",
      ),
    )
    .option("--host <address>", "address to listen on; 0.0.0.0 for all", serveDefaults.host)
    .option("--port <number>", "port to listen on; 0 for any", portNumber("--port"), serveDefaults.port)
    .option(
      "--metrics-port <number>",
      "port for /metrics and /health alone, without TLS; default: they are on --port",
      portNumber("--metrics-port"),
    )
    .option("--api-keys <file>", "JSON file of API keys, read again on SIGHUP; without it (and USMLITE_API_KEY) everyone is let in")
    .option("--tls-cert <file>", "certificate chain (PEM): HTTPS and WSS")
    .option("--tls-key <file>", "private key of the certificate (PEM)")
    .option("--tls-client-ca <file>", "let only clients in whose certificate these authorities (PEM) signed")
    .option("--workers <count>", "worker threads; default: one per core", positiveInteger("--workers"))
    .option(
      "--threads <count>",
      "threads of one operation while no other worker computes; default: one per core",
      positiveInteger("--threads"),
    )
    .option("--max-batch <count>", "recordings a worker recognizes at once", positiveInteger("--max-batch"), serveDefaults.maximumBatch)
    .option(
      "--max-wait-ms <ms>",
      "longest wait of a pass for recordings being read",
      nonNegativeNumber("--max-wait-ms"),
      serveDefaults.maximumWaitMs,
    )
    .option(
      "--max-queue <count>",
      "recordings that may wait; more get status 429",
      positiveInteger("--max-queue"),
      serveDefaults.maximumQueue,
    )
    .option("--max-streams <count>", "WebSocket connections", positiveInteger("--max-streams"), serveDefaults.maximumStreams)
    .option(
      "--max-per-address <count>",
      "requests that an address may have under way where there are no API keys; more get status 429",
      positiveInteger("--max-per-address"),
      serveDefaults.maximumPerAddress,
    )
    .option(
      "--max-streams-per-address <count>",
      "the same for WebSocket connections",
      positiveInteger("--max-streams-per-address"),
      serveDefaults.maximumStreamsPerAddress,
    )
    .option(
      "--max-connections <count>",
      "connections in all, idle ones too; more are closed at once",
      positiveInteger("--max-connections"),
      serveDefaults.maximumConnections,
    )
    .addOption(
      new Option(
        "--trust-proxy <addresses>",
        "proxies whose X-Forwarded-For says who the client is: addresses or networks (10.0.0.0/8) with commas between, or loopback, linklocal, uniquelocal",
      )
        .argParser(addresses)
        .default([], "none"),
    )
    .option(
      "--stream-timeout <s>",
      "seconds without audio after which a WebSocket connection ends",
      positiveNumber("--stream-timeout"),
      serveDefaults.streamTimeoutSeconds,
    )
    .option("--max-upload-mb <MiB>", "largest file", positiveNumber("--max-upload-mb"), maximumUploadBytes / 2 ** 20)
    .option("--max-hours <hours>", "longest audio", positiveNumber("--max-hours"), maximumAudioSeconds / 3600)
    .option(
      "--upload-timeout <s>",
      "seconds in which a request must have arrived",
      positiveNumber("--upload-timeout"),
      serveDefaults.uploadTimeoutSeconds,
    )
    .option(
      "--recognition-timeout <s>",
      "seconds a worker may spend on a recording",
      positiveNumber("--recognition-timeout"),
      serveDefaults.recognitionTimeoutSeconds,
    )
    .option(
      "--drain-timeout <s>",
      "seconds for accepted requests after SIGTERM",
      positiveNumber("--drain-timeout"),
      serveDefaults.drainTimeoutSeconds,
    )
    .addOption(new Option("--decoder <decoder>", "beam is the default with a language model").choices(["greedy", "beam"]))
    .option("--beam <width>", "hypotheses kept by the beam search", positiveInteger("--beam"))
    .option("--spool <folder>", "where uploads lie while they wait; default: the system's temporary folder")
    .addOption(
      new Option("--log-level <level>", "JSON lines on standard error")
        .choices(["silent", "error", "warn", "info", "debug"])
        .default(serveDefaults.logLevel),
    )
    .option("--log-transcripts", "write what was said into the log")
    .action(serve);
}

async function serve(options: CommandOptions): Promise<void> {
  const { Server } = await import("../serve/server.js");
  const apiKeys = keys(options);
  const tls = tlsOf(options);
  const stop = new AbortController();
  let server: ServerType | undefined;
  const reload = (): void => void server?.reload().catch(() => undefined); // the log says why it failed
  const handlers: [NodeJS.Signals, () => void][] = [["SIGHUP", reload]];
  const ended = new Promise<void>((resolve, reject) => {
    let asked = false;
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      handlers.push([
        signal,
        () => {
          stop.abort();
          // Who asks twice, in whatever way, does not want to wait.
          void (asked ? server?.close() : server?.drain())?.then(resolve, reject);
          asked = true;
        },
      ]);
    }
  });
  for (const [signal, handler] of handlers) process.on(signal, handler);
  try {
    server = await Server.start(
      {
        model: options.model,
        device: options.device,
        arithmetic: options.arithmetic,
        batchInvariant: options.batchInvariant,
        host: options.host,
        port: options.port,
        maximumBatch: options.maxBatch,
        maximumWaitMs: options.maxWaitMs,
        maximumQueue: options.maxQueue,
        maximumStreams: options.maxStreams,
        maximumPerAddress: options.maxPerAddress,
        maximumStreamsPerAddress: options.maxStreamsPerAddress,
        maximumConnections: options.maxConnections,
        trustedProxies: options.trustProxy,
        streamTimeoutSeconds: options.streamTimeout,
        maximumUploadBytes: Math.round(options.maxUploadMb * 2 ** 20),
        maximumAudioSeconds: options.maxHours * 3600,
        uploadTimeoutSeconds: options.uploadTimeout,
        recognitionTimeoutSeconds: options.recognitionTimeout,
        drainTimeoutSeconds: options.drainTimeout,
        logLevel: options.logLevel,
        logTranscripts: options.logTranscripts ?? false,
        ...(options.metricsPort === undefined ? {} : { metricsPort: options.metricsPort }),
        ...(options.adapters === undefined ? {} : { adapters: options.adapters }),
        ...(options.language === undefined ? {} : { language: options.language }),
        ...(options.modelName === undefined ? {} : { modelName: options.modelName }),
        ...(options.modelAlias === undefined ? {} : { modelAliases: options.modelAlias }),
        ...(options.workers === undefined ? {} : { workers: options.workers }),
        ...(options.threads === undefined ? {} : { threads: options.threads }),
        ...(options.decoder === undefined ? {} : { decoder: options.decoder }),
        ...(options.beam === undefined ? {} : { beamWidth: options.beam }),
        ...(options.spool === undefined ? {} : { spoolFolder: options.spool }),
        ...(apiKeys ? { apiKeys } : {}),
        ...(tls ? { tls } : {}),
      },
      stop.signal,
    );
  } catch (error) {
    for (const [signal, handler] of handlers) process.off(signal, handler);
    if (stop.signal.aborted && error instanceof UsmLiteError && error.code === "ABORTED") return; // it was not wanted any more
    throw error;
  }
  if (stop.signal.aborted) return server.close();
  process.stdout.write(`usm-lite serves ${server.model.name} at ${server.url}\n`);
  await ended;
}

/** May be given any number of times. */
const addresses = (value: string, before: readonly string[]): string[] => [
  ...before,
  ...value
    .split(",")
    .map((address) => address.trim())
    .filter(Boolean),
];

function keys({ apiKeys }: CommandOptions): ServeOptions["apiKeys"] {
  const single = process.env["USMLITE_API_KEY"];
  if (apiKeys !== undefined || !single) return apiKeys;
  if (single.length < shortestApiKey) {
    throw new UsmLiteError("BAD_CONFIG", `USMLITE_API_KEY has ${single.length} characters; keys need ${shortestApiKey} or more`);
  }
  return [{ name: "USMLITE_API_KEY", key: single }];
}

function tlsOf({ tlsCert, tlsKey, tlsClientCa }: CommandOptions) {
  if (tlsCert === undefined && tlsKey === undefined && tlsClientCa === undefined) return undefined;
  if (tlsCert === undefined || tlsKey === undefined) {
    throw new UsmLiteError("INVALID_ARGUMENT", "TLS needs both --tls-cert and --tls-key");
  }
  return { certificate: tlsCert, key: tlsKey, ...(tlsClientCa === undefined ? {} : { clientAuthority: tlsClientCa }) };
}
