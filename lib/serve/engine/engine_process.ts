/**
 * The engine process: recognition workers, one thread each, around one copy of the packed weights. It is a process of its
 * own so that whatever a hostile recording or a fault in native code does to it leaves the server, its queue and its
 * connections alone.
 */
import { Worker } from "node:worker_threads";
import { errorOfWorker, UsmLiteError } from "../../errors.js";
import type { SharedMatrices } from "../../models/checkpoint_weights.js";
import type { WorkerAnswer, WorkerOptions } from "../../transcribe/worker_messages.js";
import type { EngineOptions, FromEngine, ToEngine } from "./engine_messages.js";

const memoryReportMs = 2000;
const restartDelayMs = 200;

if (!process.send) throw new UsmLiteError("INTERNAL", "this module runs only as a child process of the server");

const workers: Worker[] = [];
let sharedMatrices: SharedMatrices | undefined;

// The server says when to end; a terminal's Ctrl-C reaches every process at once.
process.on("SIGINT", () => undefined);
process.on("SIGTERM", () => undefined);
process.on("disconnect", () => process.exit(0));
if (!process.connected) process.exit(0); // the server ended while this module was loaded
process.on("message", (message: ToEngine) => {
  if (message.kind === "start") startAll(message.options);
  else workers[message.worker]?.postMessage(message.request);
});
setInterval(reportMemory, memoryReportMs);

function reportMemory(): void {
  send({ kind: "memory", residentBytes: process.memoryUsage.rss() });
}

function send(message: FromEngine): void {
  process.send?.(message, undefined, undefined, () => undefined); // nobody listens any more: `disconnect` follows
}

/** The first worker loads the weights, the others share them. */
function startAll({ workers: count, ...options }: EngineOptions): void {
  start(0, options, () => {
    for (let index = 1; index < count; index++) start(index, options);
  });
}

function start(index: number, options: WorkerOptions, onReady: () => void = () => undefined): void {
  const workerData: WorkerOptions = sharedMatrices ? { ...options, sharedMatrices } : options;
  const worker = new Worker(new URL("../../transcribe/transcription_worker.js", import.meta.url), { workerData });
  workers[index] = worker;
  let ready = false;
  let problem = "";
  worker.on("message", (answer: WorkerAnswer) => {
    if (answer.kind === "ready") {
      ready = true;
      sharedMatrices = answer.sharedMatrices;
    }
    send({ kind: "answer", worker: index, answer });
    if (answer.kind !== "ready") return;
    reportMemory();
    onReady();
  });
  worker.on("error", (thrown: Error) => {
    const error = errorOfWorker(thrown);
    problem = error.message;
    // It ended before it could answer: the addon does not load.
    if (!ready)
      send({
        kind: "answer",
        worker: index,
        answer: { kind: "failed", code: error instanceof UsmLiteError ? error.code : "INTERNAL", message: problem },
      });
  });
  worker.on("exit", (status) => {
    send({ kind: "lost", worker: index, message: problem || `it ended with status ${status}` });
    // One that never was ready has said why; the server decides what follows.
    if (ready) setTimeout(() => start(index, options), restartDelayMs);
  });
}
