/**
 * Suite `serve`: the default model behind HTTP on loopback under mixed-length load from 1, 8 and 64 clients, beside what
 * the same model does offline, and beside a server around onnxruntime with the same network. All take turns.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { defaultModelFolder } from "../../lib/models/default_model.js";
import { loadModel } from "../../lib/models/model_folder.js";
import { setThreadCount, threadCount } from "../../lib/native/runtime.js";
import { Dispatcher } from "../../lib/serve/engine/dispatcher.js";
import { Engine } from "../../lib/serve/engine/engine.js";
import { Recognizer } from "../../lib/transcribe/recognizer.js";
import { exampleSpeech } from "../example_speech.js";
import { load, percentile, type Clip, type LoadResult } from "../load.js";
import { median } from "../measure.js";
import { cpuSeconds } from "../process_usage.js";
import type { BenchmarkContext, BenchmarkRecord, BenchmarkSuite } from "../record.js";
import { ServerProcess } from "../server_process.js";

/** Seconds of audio, as a service gets them: mostly short, some long. */
const lengths = [2, 3, 3, 4, 4, 5, 6, 7, 8, 10, 12, 15, 20, 25, 30];
const clientCounts = [1, 8, 64];
const peerClients = 8;
const rounds = Number(process.env["USMLITE_BENCH_ROUNDS"] ?? 3);
const secondsPerTurn = Number(process.env["USMLITE_BENCH_SECONDS"] ?? 20);
/** Of those that a server is compared with. */
const secondsPerComparison = secondsPerTurn / 4;
const name = (what: string): string => `${what}, mixed ${Math.min(...lengths)} to ${Math.max(...lengths)} s`;

/** Somebody who transcribes for a turn. */
interface Contestant {
  readonly case: string;
  readonly impl: string;
  readonly spec: string;
  readonly note?: string;
  readonly server?: ServerProcess;
  /** Processor time that it has used so far. */
  cpuSeconds(): number;
  turn(): Promise<LoadResult>;
}

/** A turn, and the processor time that it took. */
interface Turn extends LoadResult {
  readonly cpuSeconds: number;
}

export const serve: BenchmarkSuite = {
  name: "serve",
  async run(context: BenchmarkContext): Promise<void> {
    const threads = Math.max(...context.threads);
    const threadsBefore = threadCount();
    setThreadCount(threads);
    const clips = await mixedClips();
    const folder = mkdtempSync(join(tmpdir(), "usm-lite-bench-"));
    const stops: (() => Promise<unknown>)[] = [];
    try {
      const workers = availableParallelism();
      const server = await ServerProcess.start("dist/lib/cli/main.js", serveArguments(), { USMLITE_THREADS: String(threads) });
      stops.push(() => server.stop());
      const url = server.greeting.split(" at ")[1] as string;
      const { recognizer, dispatcher, enginePid, stop } = await offline(workers, threads);
      stops.push(stop);
      const contestants: Contestant[] = [
        ...[60, 0].map((most): Contestant => ({
          case: name(`offline, ${most > 0 ? `${most} s` : "a recording"} a call`),
          impl: "usm-lite",
          spec,
          cpuSeconds: ownCpuSeconds,
          turn: () => offlineTurn(recognizer, clips, most),
        })),
        {
          case: name("offline, files to all workers"),
          impl: "usm-lite",
          spec,
          cpuSeconds: () => cpuSeconds(enginePid),
          turn: () => filesTurn(dispatcher, clips, folder, workers),
        },
        ...clientCounts.map((clients): Contestant => ({
          ...ours(clients),
          ...ofServer(server),
          turn: () => load(url, clips, clients, secondsPerTurn),
        })),
        ...(await peers(threads, clips, context, stops)),
      ];
      await takeTurns(context, threads, contestants);
      await pastTheLimit(context, threads, clips);
    } finally {
      for (const stop of stops) await stop();
      rmSync(folder, { recursive: true, force: true });
      setThreadCount(threadsBefore);
    }
  },
};

const spec = "int4+2:4";
const ours = (clients: number) => ({ case: name(`${clients} client${clients > 1 ? "s" : ""}`), impl: "usm-lite serve", spec });
const ofServer = (server: ServerProcess) => ({ server, cpuSeconds: () => server.cpuSeconds });
const ownCpuSeconds = (): number => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};
const serveArguments = (...more: string[]): string[] => ["serve", "--port", "0", "--log-level", "error", ...more];

async function mixedClips(): Promise<Clip[]> {
  const { utterances } = await exampleSpeech();
  const speech = utterances[0] as Float32Array;
  return lengths.map((seconds, index) => {
    const bytes = Buffer.alloc(44 + 32_000 * seconds);
    bytes.write("RIFF\0\0\0\0WAVEfmt ", "latin1");
    bytes.writeUInt32LE(bytes.length - 8, 4);
    bytes.writeUInt32LE(16, 16);
    bytes.writeUInt16LE(1, 20);
    bytes.writeUInt16LE(1, 22);
    bytes.writeUInt32LE(16_000, 24);
    bytes.writeUInt32LE(32_000, 28);
    bytes.writeUInt16LE(2, 32);
    bytes.writeUInt16LE(16, 34);
    bytes.write("data", 36, "latin1");
    bytes.writeUInt32LE(32_000 * seconds, 40);
    // Begun at different places, so that no two are alike.
    for (let i = 0; i < 16_000 * seconds; i++) {
      const value = speech[(i + 1000 * index) % speech.length] as number;
      bytes.writeInt16LE(Math.max(-32768, Math.min(32767, Math.round(32768 * value))), 44 + 2 * i);
    }
    return { seconds, wav: bytes };
  });
}

async function offline(workers: number, threads: number) {
  const recognizer = new Recognizer(loadModel(defaultModelFolder));
  const options = { model: defaultModelFolder, workers, maximumBatch: 8, maximumSeconds: 3600 };
  let dispatcher: Dispatcher | undefined;
  const events = { onReady: () => dispatcher?.pump(), onPass: () => undefined, onMemory: () => undefined, onCrash: () => undefined };
  const engine = await Engine.start(options, threads, events);
  dispatcher = new Dispatcher(engine, { maximumBatch: 8, maximumQueue: 1000, timeoutMs: 600_000 });
  return { recognizer, dispatcher, enginePid: engine.pid as number, stop: () => engine.close() };
}

/**
 * As `usm-lite evaluate` does it: samples in memory, all threads on each operation.
 * @param most seconds in a call, unless a recording has more: with 0 one at a time, as a single client sends them
 */
async function offlineTurn(recognizer: Recognizer, clips: readonly Clip[], most: number): Promise<LoadResult> {
  const samples = clips.map(({ wav }) =>
    Float32Array.from({ length: (wav.length - 44) / 2 }, (_, i) => wav.readInt16LE(44 + 2 * i) / 32768),
  );
  const calls: number[][] = [];
  let room = 0;
  clips.forEach(({ seconds }, index) => {
    if (seconds > room) {
      calls.push([]);
      room = most;
    }
    calls.at(-1)?.push(index);
    room -= seconds;
  });
  return untilOver(async () => {
    for (const call of calls) {
      recognizer.transcribeBatch(call.map((index) => samples[index] as Float32Array));
      await new Promise((resolve) => setImmediate(resolve));
    }
    return clips.reduce((sum, { seconds }) => sum + seconds, 0);
  });
}

/** The most that these workers do: files that lie ready, as many at once as they take, without HTTP. */
function filesTurn(dispatcher: Dispatcher, clips: readonly Clip[], folder: string, workers: number): Promise<LoadResult> {
  const paths = clips.map(({ wav }, index) => {
    const path = join(folder, `${index}.wav`);
    writeFileSync(path, wav);
    return path;
  });
  return untilOver(async () => {
    const copies = Array.from({ length: workers }, () => paths).flat();
    await Promise.all(copies.map((audio) => dispatcher.submit({ client: "offline", cost: 1, audio, options: {} })));
    return workers * clips.reduce((sum, { seconds }) => sum + seconds, 0);
  });
}

async function untilOver(pass: () => Promise<number>): Promise<LoadResult> {
  const started = performance.now();
  const latencies: number[] = [];
  let audioSeconds = 0;
  while (performance.now() - started < 1000 * secondsPerComparison) {
    const begin = performance.now();
    audioSeconds += await pass();
    latencies.push(performance.now() - begin);
  }
  return { latencies, audioSeconds, wallSeconds: (performance.now() - started) / 1000, refused: 0, failures: {} };
}

/** Servers around onnxruntime, where it is installed. */
async function peers(
  threads: number,
  clips: readonly Clip[],
  context: BenchmarkContext,
  stops: (() => Promise<unknown>)[],
): Promise<Contestant[]> {
  const contestants: Contestant[] = [];
  for (const spec of ["float32", "int8-dynamic"]) {
    const server = await ServerProcess.start("dist/bench/peers/onnxruntime_server.js", [spec, String(threads)], {
      USMLITE_THREADS: String(threads),
    });
    stops.push(() => server.stop());
    const greeting = JSON.parse(server.greeting) as { missing?: string; url: string; impl: string; agreement: number };
    if (greeting.missing) {
      context.log(`${greeting.missing} is not installed: no server to compare with`);
      return [];
    }
    const note = `one request a run, search in the server's thread; ${(100 * greeting.agreement).toFixed(1)} % of frames choose the token of usm-lite float32`;
    const turn = () => load(greeting.url, clips, peerClients, secondsPerComparison);
    contestants.push({
      case: name(`${peerClients} clients`),
      impl: `Fastify around ${greeting.impl}`,
      spec,
      note,
      ...ofServer(server),
      turn,
    });
  }
  return contestants;
}

async function takeTurns(context: BenchmarkContext, threads: number, contestants: readonly Contestant[]): Promise<void> {
  const turns = contestants.map((): Turn[] => []);
  for (let round = 0; round < rounds; round++) {
    for (const [index, contestant] of contestants.entries()) {
      const turn = await measured(contestant);
      turns[index]?.push(turn);
      contestant.server?.sampleMemory();
      context.log(
        `round ${round + 1} of ${rounds}: ${contestant.impl}, ${contestant.case}: RTFx ${rtfxOf(turn).toFixed(0)}, ${perCpuSecond([turn]).toFixed(0)} s of audio per processor second`,
      );
    }
  }
  contestants.forEach((contestant, index) => context.record(serveRecord(contestant, threads, turns[index] as Turn[])));
}

async function measured({ cpuSeconds, turn }: Contestant): Promise<Turn> {
  const before = cpuSeconds();
  const result = await turn();
  return { ...result, cpuSeconds: cpuSeconds() - before };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
const rtfxOf = ({ audioSeconds, wallSeconds }: LoadResult): number => audioSeconds / wallSeconds;
const perCpuSecond = (turns: readonly Turn[]): number =>
  sum(turns.map(({ audioSeconds }) => audioSeconds)) / sum(turns.map((turn) => turn.cpuSeconds));

/** Latencies of all rounds together; the speed is the median of the rounds. */
function serveRecord(
  { case: name, impl, spec, note, server }: Omit<Contestant, "turn" | "cpuSeconds">,
  threads: number,
  results: readonly Turn[],
): BenchmarkRecord {
  const latencies = results.flatMap((result) => result.latencies);
  const [p50, p95, p99] = [0.5, 0.95, 0.99].map((share) => percentile(latencies, share)) as [number, number, number];
  const failed = sum(results.flatMap(({ failures }) => Object.values(failures)));
  return {
    suite: "serve",
    case: name,
    impl,
    spec,
    device: "cpu",
    threads,
    ms: p50,
    ms_min: Math.min(...latencies),
    ms_max: Math.max(...latencies),
    runs: latencies.length,
    rtfx: median(results.map(rtfxOf)),
    latency: { p50, p95, p99 },
    requests: { answered: latencies.length, refused: sum(results.map(({ refused }) => refused)), failed },
    audioPerCpuSecond: perCpuSecond(results),
    ...(server ? { residentBytes: server.residentBytes } : {}),
    ...(note === undefined ? {} : { note }),
  };
}

/** More clients than the queue holds: what is refused is refused with 429, and the rest is answered. */
async function pastTheLimit(context: BenchmarkContext, threads: number, clips: readonly Clip[]): Promise<void> {
  const server = await ServerProcess.start("dist/lib/cli/main.js", serveArguments("--max-queue", "8"), {
    USMLITE_THREADS: String(threads),
  });
  try {
    const url = server.greeting.split(" at ")[1] as string;
    const contestant = { case: name("64 clients, a queue of 8"), impl: "usm-lite serve", spec, ...ofServer(server) };
    const turn = await measured({ ...contestant, turn: () => load(url, clips, 64, secondsPerTurn) });
    server.sampleMemory();
    context.record(serveRecord(contestant, threads, [turn]));
  } finally {
    await server.stop();
  }
}
