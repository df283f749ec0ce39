/** What the service measures, in Prometheus' text format. */
import { monitorEventLoopDelay } from "node:perf_hooks";
import { Counter, Gauge, Histogram, Registry } from "prom-client";
import { version } from "../version.js";

const latencyBuckets = [0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300];

/** What requests are refused with, as far as it is known before. */
const refusalCodes = [
  "queue_full",
  "too_many_streams",
  "too_many_concurrent_requests",
  "rate_limit_exceeded",
  "shutting_down",
  "storage_full",
  "file_too_large",
  "audio_too_long",
];

/** How often it is looked whether the event loop turns; a delay is what comes on top. */
const delayResolutionMs = 20;

/** Gauges that are read when they are asked for. */
export interface LiveValues {
  receiving(): number;
  queued(): number;
  active(): number;
  streams(): number;
  connections(): number;
  readyWorkers(): number;
  engineBytes(): number;
  tensorBytes(): number;
}

export class Metrics {
  private readonly registry = new Registry();
  private readonly delays = monitorEventLoopDelay({ resolution: delayResolutionMs });

  readonly requests = this.counter("requests_total", "Requests answered.", ["route", "status"]);
  readonly rejected = this.counter("rejected_total", "Requests and streams refused, by the code of their error.", ["code"]);
  readonly droppedConnections = this.counter("connections_dropped_total", "Connections closed at once: there were as many as allowed.", []);
  readonly requestSeconds = this.histogram(
    "request_seconds",
    "From the first byte of a request to the last of its answer.",
    latencyBuckets,
    ["route"],
  );
  readonly queueSeconds = this.histogram("queue_seconds", "Time that recordings waited for a worker.", [0.001, 0.005, ...latencyBuckets]);
  readonly recognitionSeconds = this.histogram("recognition_seconds", "Time that recordings were in the hands of workers.", latencyBuckets);
  readonly rtfx = this.histogram(
    "rtfx",
    "Seconds of audio recognised in a second, for each recording.",
    [1, 5, 10, 25, 50, 100, 200, 400, 800, 1600],
  );
  readonly audioSeconds = this.counter("audio_seconds_total", "Seconds of audio recognised.", []);
  readonly batchSize = this.histogram("batch_size", "Chunks that shared a pass of the network.", [1, 2, 3, 4, 6, 8, 12, 16, 32, 64]);
  readonly passSeconds = this.histogram("pass_seconds", "Time that passes of the network took.", [0.002, 0.005, ...latencyBuckets]);
  readonly networkAudioSeconds = this.counter(
    "network_audio_seconds_total",
    "Seconds of audio that the network heard, overlaps included.",
    [],
  );
  readonly partialSeconds = this.histogram(
    "partial_latency_seconds",
    "From the arrival of live audio to the sending of text that covers it.",
    latencyBuckets,
  );
  readonly finalSeconds = this.histogram(
    "final_latency_seconds",
    "From the end of live speech to the sending of its transcript.",
    latencyBuckets,
  );
  readonly droppedLogLines = this.counter("log_lines_dropped_total", "Lines of the log that could not be written in time.", []);
  readonly crashes = this.counter("engine_restarts_total", "Workers and engine processes that ended by themselves.", ["what"]);
  readonly reloads = this.counter("model_reloads_total", "Reloads of the model.", ["result"]);

  constructor(live: LiveValues) {
    this.delays.enable();
    // Rates of what has not happened yet are zero, not unknown.
    for (const code of refusalCodes) this.rejected.inc({ code }, 0);
    for (const what of ["worker", "process"]) this.crashes.inc({ what }, 0);
    for (const result of ["done", "failed"]) this.reloads.inc({ result }, 0);
    const build = new Gauge({
      name: "usmlite_build_info",
      help: "1; its label tells the version.",
      labelNames: ["version"],
      registers: [this.registry],
    });
    build.set({ version }, 1);
    this.gauge("uploads_active", "Requests whose audio is being received.", () => live.receiving());
    this.gauge("queue_depth", "Recordings that wait for a worker.", () => live.queued());
    this.gauge("recordings_active", "Recordings in the hands of workers.", () => live.active());
    this.gauge("connections_open", "Connections, idle ones included.", () => live.connections());
    this.gauge("streams_active", "Connections that stream audio.", () => live.streams());
    this.gauge("workers_ready", "Workers that can take work.", () => live.readyWorkers());
    this.gauge("engine_resident_bytes", "Resident memory of the engine process.", () => live.engineBytes());
    this.gauge("tensor_bytes", "Memory of weights and activations.", () => live.tensorBytes());
    this.gauge("server_resident_bytes", "Resident memory of the server process.", () => process.memoryUsage.rss());
    this.gauge("event_loop_delay_seconds", "Longest time for which the server process attended to nothing, since the last scrape.", () =>
      this.longestDelay(),
    );
  }

  /** Measures nothing any more. */
  close(): void {
    this.delays.disable();
  }

  private longestDelay(): number {
    const milliseconds = this.delays.max / 1e6 - delayResolutionMs;
    this.delays.reset();
    return Math.max(0, milliseconds / 1000);
  }

  get contentType(): string {
    return this.registry.contentType;
  }

  text(): Promise<string> {
    return this.registry.metrics();
  }

  private counter<Label extends string>(name: string, help: string, labelNames: Label[]): Counter<Label> {
    return new Counter({ name: `usmlite_${name}`, help, labelNames, registers: [this.registry] });
  }

  private histogram<Label extends string>(name: string, help: string, buckets: number[], labelNames: Label[] = []): Histogram<Label> {
    return new Histogram({ name: `usmlite_${name}`, help, buckets, labelNames, registers: [this.registry] });
  }

  private gauge(name: string, help: string, read: () => number): void {
    const collect = function (this: Gauge): void {
      this.set(read());
    };
    new Gauge({ name: `usmlite_${name}`, help, registers: [this.registry], collect });
  }
}
