/** What a server can be told; `usm-lite serve --help` lists the same. */
import { UsmLiteError } from "../errors.js";
import { checkOptionNames, type OptionNames } from "../known_options.js";
import type { RecognizerOptions } from "../transcribe/recognizer_options.js";
import type { ApiKey } from "./api_keys.js";

export interface ServeOptions extends Pick<RecognizerOptions, "decoder" | "beamWidth" | "device" | "arithmetic" | "batchInvariant"> {
  /** Model folder; the model of this package when absent. */
  readonly model?: string;
  /** Folder of adapters, one folder for each speaker: what requests may name as `speaker`. */
  readonly adapters?: string;
  /** What `/v1/models` calls it; the folder's name when absent, {@link defaultModelName} for the model of this package. */
  readonly modelName?: string;
  /** Other names under which clients may ask for it. */
  readonly modelAliases?: readonly string[];
  /**
   * ISO 639-1 code of what it recognises, "en" when absent. To a model of one language it is a label that requests are compared with.
   * Models of several languages are told one that is given; without, Whisper hears it itself, and models that must be told are an error.
   * Models with weights for each (MMS) are loaded for it; it is then of three letters.
   */
  readonly language?: string;
  readonly host?: string;
  /** 0 takes any that is free. */
  readonly port?: number;
  /** Health and metrics on a port of their own, without TLS; metrics are then nowhere else. */
  readonly metricsPort?: number;
  /** PEM files; HTTPS and WSS instead of HTTP and WS. Read again on reload. */
  readonly tls?: { readonly certificate: string; readonly key: string; readonly clientAuthority?: string };
  /** Who may use it, or the path of a JSON file that says it, which is read again on reload; everyone when absent. */
  readonly apiKeys?: readonly ApiKey[] | string;
  /** Worker threads; one per core when absent. */
  readonly workers?: number;
  /** Threads that one operation may use while no other worker computes; one per core when absent. */
  readonly threads?: number;
  /** Recordings that a worker recognises at once. */
  readonly maximumBatch?: number;
  readonly maximumWaitMs?: number;
  /** Recordings that may wait for a worker. */
  readonly maximumQueue?: number;
  /** Connections that stream audio. */
  readonly maximumStreams?: number;
  /** Requests that an address may have under way, where there are no API keys; IPv6 addresses count by their /64. */
  readonly maximumPerAddress?: number;
  /** The same for connections that stream audio. */
  readonly maximumStreamsPerAddress?: number;
  /** Connections in all, idle ones included; more are closed at once. */
  readonly maximumConnections?: number;
  /** Proxies whose X-Forwarded-For is believed: addresses, networks such as `10.0.0.0/8`, or `loopback`, `linklocal`, `uniquelocal`. */
  readonly trustedProxies?: readonly string[];
  /** Seconds without audio after which such a connection ends. */
  readonly streamTimeoutSeconds?: number;
  readonly maximumUploadBytes?: number;
  readonly maximumAudioSeconds?: number;
  /** Seconds in which a request must have arrived. */
  readonly uploadTimeoutSeconds?: number;
  /** Seconds in which a recording must be recognised, once a worker has it. */
  readonly recognitionTimeoutSeconds?: number;
  /** Seconds that {@link Server.drain} waits for what was accepted. */
  readonly drainTimeoutSeconds?: number;
  /** Where uploads lie while they wait; a folder of its own under the system's temporary one when absent. */
  readonly spoolFolder?: string;
  /** `silent` for none. */
  readonly logLevel?: "silent" | "error" | "warn" | "info" | "debug";
  /** Write transcripts into the log. They are what people said: off unless asked for. */
  readonly logTranscripts?: boolean;
}

const serveOptionNames: OptionNames<ServeOptions> = {
  model: true,
  adapters: true,
  modelName: true,
  modelAliases: true,
  language: true,
  host: true,
  port: true,
  metricsPort: true,
  tls: true,
  apiKeys: true,
  workers: true,
  threads: true,
  maximumBatch: true,
  maximumWaitMs: true,
  maximumQueue: true,
  maximumStreams: true,
  maximumPerAddress: true,
  maximumStreamsPerAddress: true,
  maximumConnections: true,
  trustedProxies: true,
  streamTimeoutSeconds: true,
  maximumUploadBytes: true,
  maximumAudioSeconds: true,
  uploadTimeoutSeconds: true,
  recognitionTimeoutSeconds: true,
  drainTimeoutSeconds: true,
  spoolFolder: true,
  logLevel: true,
  logTranscripts: true,
  decoder: true,
  beamWidth: true,
  device: true,
  arithmetic: true,
  batchInvariant: true,
};

/** What the model of this package is called unless it is given another name: its folder says nothing to clients. */
export const defaultModelName = "usm-lite-default";

/** In characters. */
export const shortestApiKey = 16;

export const serveDefaults = {
  language: "en",
  modelAliases: ["whisper-1"],
  host: "127.0.0.1",
  port: 8080,
  maximumBatch: 8,
  maximumWaitMs: 5,
  maximumQueue: 256,
  maximumStreams: 64,
  maximumPerAddress: 128,
  maximumStreamsPerAddress: 32,
  maximumConnections: 1024,
  trustedProxies: [],
  streamTimeoutSeconds: 900,
  maximumUploadBytes: 100 * 2 ** 20,
  maximumAudioSeconds: 4 * 3600,
  uploadTimeoutSeconds: 120,
  recognitionTimeoutSeconds: 600,
  drainTimeoutSeconds: 60,
  logLevel: "info",
} as const satisfies ServeOptions;

export type ResolvedServeOptions = ServeOptions & Required<Pick<ServeOptions, keyof typeof serveDefaults>>;

/** Timers of Node.js hold no more than 2^31 - 1 ms, and end at once where they are told more. */
const longestSeconds = 2_000_000;

/**
 * What is given, and the defaults for the rest.
 * @throws UsmLiteError INVALID_ARGUMENT for an option that does not exist, and a time that no timer holds
 */
export function resolveServeOptions(given: ServeOptions): ResolvedServeOptions {
  checkOptionNames("Server.start", given, serveOptionNames);
  const options: ResolvedServeOptions = { ...serveDefaults, ...given };
  const seconds = {
    "wait for other recordings": options.maximumWaitMs / 1000,
    "stream timeout": options.streamTimeoutSeconds,
    "upload timeout": options.uploadTimeoutSeconds,
    "recognition timeout": options.recognitionTimeoutSeconds,
    "drain timeout": options.drainTimeoutSeconds,
  };
  for (const [name, value] of Object.entries(seconds)) {
    if (value >= 0 && value <= longestSeconds) continue;
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `the ${name} is ${value} s; it must be at least 0 and at most ${longestSeconds} s (23 days)`,
    );
  }
  return options;
}
