/** The server's side of an engine process: starts it, starts it again when it ends, and knows who works on what. */
import { fork, type ChildProcess } from "node:child_process";
import { UsmLiteError } from "../../errors.js";
import type { Vocabulary, WorkerAnswer, WorkerRequest } from "../../transcribe/worker_messages.js";
import type { EngineOptions, FromEngine, ToEngine } from "./engine_messages.js";

/** What the engine reports to whoever gave it work. */
export interface RunHandlers {
  onAnswer(answer: Exclude<WorkerAnswer, { kind: "ready" | "pass" }>): void;
  /** The worker is gone, and with it what it knew of this recording. */
  onLost(message: string): void;
}

export interface EngineEvents {
  /** A worker can take work (again). */
  onReady(): void;
  onPass(pass: Extract<WorkerAnswer, { kind: "pass" }>): void;
  onMemory(residentBytes: number): void;
  /** A worker, or the whole process, ended by itself. */
  onCrash(what: "worker" | "process", message: string): void;
}

/** One recording in the hands of a worker. */
export interface Run {
  /** Of the model that the worker has: another one may have been loaded since. */
  readonly vocabulary: Vocabulary;
  send(request: WorkerRequest extends infer Request ? (Request extends { id: number } ? Omit<Request, "id"> : never) : never): void;
  /** Forgets the recording: no handler is called any more. */
  release(): void;
  /** Ends the engine at once, as if it had crashed: for a worker that no longer answers. */
  killEngine(): void;
}

interface WorkerState {
  ready: boolean;
  vocabulary: Vocabulary;
  readonly runs: Map<number, RunHandlers>;
  /** Those of `runs` that are not live. */
  readonly files: Set<number>;
}

/** Each is a thread with memory of its own. */
const maximumWorkers = 1024;
/** As `USMLITE_THREADS` takes them. */
export const maximumThreads = 256;
const firstRestartDelayMs = 100;
const longestRestartDelayMs = 5000;

export class Engine {
  private readonly workers: WorkerState[];
  private process: ChildProcess | undefined;
  private nextId = 0;
  private closed = false;
  private restartDelayMs = firstRestartDelayMs;
  private restartTimer: NodeJS.Timeout | undefined;
  private onIdle: () => void = () => undefined;
  private startup: { resolve(): void; reject(error: Error): void } | undefined;

  private constructor(
    private readonly options: EngineOptions,
    private readonly threads: number,
    private readonly events: EngineEvents,
  ) {
    this.workers = Array.from({ length: options.workers }, () => ({
      ready: false,
      vocabulary: [],
      runs: new Map(),
      files: new Set(),
    }));
  }

  /**
   * Resolves when every worker has loaded the model.
   * @param threads that one operation may use when no other worker computes
   * @param signal gives up before they have
   * @throws UsmLiteError what {@link loadModel} throws; INVALID_ARGUMENT for the number of workers or threads; INTERNAL when the process cannot be started; ABORTED
   */
  static async start(options: EngineOptions, threads: number, events: EngineEvents, signal?: AbortSignal): Promise<Engine> {
    const { workers } = options;
    if (!(Number.isInteger(threads) && threads >= 1 && threads <= maximumThreads)) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `threads is ${threads}; it must be a whole number from 1 to ${maximumThreads}, best one per core`,
      );
    }
    if (!(Number.isInteger(workers) && workers >= 1 && workers <= maximumWorkers)) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `workers is ${workers}; it must be a whole number from 1 to ${maximumWorkers}, best one per core`,
      );
    }
    const engine = new Engine(options, threads, events);
    const giveUp = (): void => engine.startup?.reject(new UsmLiteError("ABORTED", "the engine was stopped before it was ready"));
    signal?.addEventListener("abort", giveUp, { once: true });
    try {
      await new Promise<void>((resolve, reject) => {
        engine.startup = { resolve, reject };
        engine.spawn();
        if (signal?.aborted) giveUp();
      });
    } catch (error) {
      await engine.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", giveUp);
      engine.startup = undefined;
    }
    return engine;
  }

  /** The process id of the engine, while it runs. */
  get pid(): number | undefined {
    return this.process?.pid;
  }

  /** Workers that can take work. */
  get readyWorkers(): number {
    return this.workers.filter(({ ready }) => ready).length;
  }

  /** Recordings under way. */
  get running(): number {
    return this.workers.reduce((sum, { runs }) => sum + runs.size, 0);
  }

  /** A worker is ready with fewer than `most` recordings that are not live. */
  hasRoom(most: number): boolean {
    return this.workers.some(({ ready, files }) => ready && files.size < most);
  }

  /**
   * Gives a recording to the worker that has fewest; undefined when none is ready.
   * @param most of recordings that are not live; live ones (`Infinity`) do not wait, and do not count
   */
  run(handlers: RunHandlers, most = Infinity): Run | undefined {
    const able = this.workers.filter(({ ready, files }) => ready && files.size < most);
    const state = able.sort((a, b) => a.runs.size - b.runs.size)[0];
    if (!state) return undefined;
    const worker = this.workers.indexOf(state);
    const id = this.nextId++;
    state.runs.set(id, handlers);
    if (most < Infinity) state.files.add(id);
    return {
      vocabulary: state.vocabulary,
      send: (request) => {
        if (state.runs.has(id)) this.send({ kind: "request", worker, request: { ...request, id } as WorkerRequest });
      },
      release: () => {
        state.files.delete(id);
        if (state.runs.delete(id)) this.checkIdle();
      },
      killEngine: () => {
        if (state.runs.has(id)) this.kill();
      },
    };
  }

  /** Resolves when no recording is under way. */
  idle(): Promise<void> {
    return new Promise((resolve) => {
      this.onIdle = resolve;
      this.checkIdle();
    });
  }

  /** Ends the process for good; recordings under way are lost. */
  async close(): Promise<void> {
    this.closed = true;
    clearTimeout(this.restartTimer);
    const child = this.process;
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const exited = new Promise((resolve) => child.once("exit", resolve));
    child.kill("SIGKILL"); // it keeps nothing that would have to be saved
    await exited;
  }

  private kill(): void {
    this.process?.kill("SIGKILL");
  }

  private spawn(): void {
    // Otherwise every thread has memory of its own for small blocks, most of which lies idle.
    const env = { MALLOC_ARENA_MAX: "2", ...process.env, USMLITE_THREADS: String(this.threads) };
    // A debugger's port, and whatever else the server was started with, is not for its child.
    const child = fork(new URL("./engine_process.js", import.meta.url), { env, execArgv: [], serialization: "advanced" });
    this.process = child;
    child.on("message", (message: FromEngine) => this.receive(message));
    child.on("error", (error) => {
      if (child.pid === undefined) this.exited(`the engine process cannot be started: ${error.message}`); // no `exit` follows
    });
    child.on("exit", (status, signal) => this.exited(`the engine process ended ${signal ? `by ${signal}` : `with status ${status}`}`));
    this.send({ kind: "start", options: this.options });
  }

  private send(message: ToEngine): void {
    // What cannot be sent is lost with the process; `exit` follows.
    if (this.process?.connected) this.process.send(message, undefined, undefined, () => undefined);
  }

  private receive(message: FromEngine): void {
    if (message.kind === "memory") return this.events.onMemory(message.residentBytes);
    const state = this.workers[message.worker] as WorkerState;
    if (message.kind === "lost") return this.lost(state, message.message);
    const { answer } = message;
    if (answer.kind === "ready") {
      state.ready = true;
      state.vocabulary = answer.vocabulary;
      this.restartDelayMs = firstRestartDelayMs;
      if (this.readyWorkers === this.workers.length) this.startup?.resolve();
      this.events.onReady();
    } else if (answer.kind === "pass") {
      this.events.onPass(answer);
    } else if (answer.kind === "failed" && answer.id === undefined) {
      if (this.startup) return this.startup.reject(new UsmLiteError(answer.code, answer.message)); // nothing was under way that could be lost
      this.events.onCrash("worker", answer.message);
      this.kill(); // the model no longer loads: begin again, after a while
    } else {
      state.runs.get(answer.id as number)?.onAnswer(answer);
    }
  }

  private lost(state: WorkerState, message: string): void {
    if (state.ready && !this.closed) this.events.onCrash("worker", message);
    state.ready = false;
    const runs = [...state.runs.values()];
    state.runs.clear();
    state.files.clear();
    for (const run of runs) run.onLost(message);
    this.checkIdle();
  }

  private exited(message: string): void {
    if (!this.closed) this.events.onCrash("process", message);
    this.process = undefined;
    this.startup?.reject(new UsmLiteError("INTERNAL", `${message} before it was ready`));
    // None of them takes what another one lost: they are all gone.
    for (const state of this.workers) state.ready = false;
    for (const state of this.workers) this.lost(state, message);
    if (this.closed || this.startup) return;
    this.restartTimer = setTimeout(() => this.spawn(), this.restartDelayMs);
    this.restartDelayMs = Math.min(2 * this.restartDelayMs, longestRestartDelayMs);
  }

  private checkIdle(): void {
    if (this.running === 0) this.onIdle();
  }
}
