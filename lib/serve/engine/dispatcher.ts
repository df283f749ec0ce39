/**
 * From accepted recordings to workers: a bounded queue, fair between clients, in front of the engine. A recording whose
 * worker ends goes to another one. Which recordings share passes of the network is decided in the workers
 * ({@link ForwardBatcher}); here it is decided whose turn it is.
 */
import { UsmLiteError } from "../../errors.js";
import type { RecognizedSpeech } from "../../transcribe/decoding.js";
import type { PartialText } from "../../transcribe/partial_recognition.js";
import type { RecordingRequest, Vocabulary } from "../../transcribe/worker_messages.js";
import { ServiceError } from "../service_error.js";
import type { Engine, Run } from "./engine.js";
import { FairQueue } from "./fair_queue.js";
import type { LiveAudio } from "./live_audio.js";

export interface DispatcherOptions {
  /** Recordings that a worker has at once: those from which the chunks of a pass are taken. */
  readonly maximumBatch: number;
  /** Recordings that may wait. */
  readonly maximumQueue: number;
  /** Longest time in the hands of a worker, in milliseconds. */
  readonly timeoutMs: number;
}

/** What was said, and the vocabulary of the model that heard it: the ids of tokens speak of that one, whatever is served by now. */
export interface Heard {
  readonly speech: RecognizedSpeech;
  readonly vocabulary: Vocabulary;
}

/** What happened to a recording, for metrics and logs; times in seconds. */
export interface JobReport {
  readonly queueSeconds: number;
  readonly recognitionSeconds: number;
  /** Workers that ended while they had it. */
  readonly attempts: number;
}

export interface Job {
  /** Whose turn it is is decided between clients. */
  readonly client: string;
  /** Seconds of audio, about. */
  readonly cost: number;
  /** A path, or speech that goes on: that does not wait in the queue, and its time is not limited. */
  readonly audio: string | LiveAudio;
  readonly options: RecordingRequest;
  readonly signal?: AbortSignal;
  readonly onPartial?: (partial: PartialText) => void;
  readonly onReport?: (report: JobReport) => void;
}

interface Ticket {
  readonly job: Job;
  readonly submitted: number;
  started: number | undefined;
  /** Workers that ended while they had it. */
  losses: number;
  /** It is the one lost recording that is tried again. */
  suspect: boolean;
  /** Nobody waits for it any more. */
  abandoned: boolean;
  run: Run | undefined;
  timer: NodeJS.Timeout | undefined;
  settle(outcome: Heard | { error: Error }): void;
}

const maximumLosses = 3;
/**
 * A worker that has not left a recording so long after it was told to hangs. It hears that between passes, and between the tokens that are
 * written in one: far more than what an encoder takes for a pass, or all that others have on the same engine would be lost with it.
 */
const abortGraceMs = 300_000;

export class Dispatcher {
  private readonly queue = new FairQueue<Ticket>();
  /** Speech that goes on, while no worker is ready. */
  private live: Ticket[] = [];
  /** Lost with their worker. One at a time is tried again, so that one that ends workers shows itself. */
  private suspects: Ticket[] = [];
  private suspectRunning = false;
  private readonly running = new Set<Ticket>();
  /** Places promised to requests whose audio is being received. */
  private reserved = 0;

  constructor(
    private engine: Engine,
    private readonly options: DispatcherOptions,
  ) {}

  /** Recordings that wait for a worker. */
  get queued(): number {
    return this.queue.length + this.suspects.length + this.live.length;
  }

  /** Requests that have a place in the queue and whose audio is being received. */
  get receiving(): number {
    return this.reserved;
  }

  /** Recordings in the hands of workers. */
  get active(): number {
    return this.running.size;
  }

  /** Requests that somebody waits for an answer to. */
  get unanswered(): number {
    return this.reserved + this.queued + [...this.running].filter(({ abandoned }) => !abandoned).length;
  }

  /** From now on, work goes to `engine`. Gives back the old one, whose work goes on. */
  replaceEngine(engine: Engine): Engine {
    const old = this.engine;
    this.engine = engine;
    this.pump();
    return old;
  }

  /** To be called when a worker is ready. */
  pump(): void {
    for (const ticket of this.live.splice(0)) if (!this.start(ticket)) this.live.push(ticket);
    if (!this.suspectRunning) {
      const suspect = this.suspects[0];
      if (suspect && this.start(suspect)) this.suspects.shift();
    }
    const { maximumBatch } = this.options;
    while (this.queue.length > 0 && this.engine.hasRoom(maximumBatch)) this.start(this.queue.take() as Ticket);
  }

  /**
   * Promises a place in the queue before the audio has been received; call what it returns when the recording was
   * submitted, or is not going to be.
   * @throws ServiceError queue_full
   */
  reserve(): () => void {
    const room = this.engine.readyWorkers * this.options.maximumBatch - this.running.size;
    if (this.reserved + this.queued >= this.options.maximumQueue + Math.max(0, room)) {
      throw new ServiceError(
        "queue_full",
        `${this.queued} recordings wait already, which is as many as this server takes; try again later`,
        this.retryAfterSeconds(),
      );
    }
    this.reserved++;
    let released = false;
    return () => {
      if (!released) this.reserved--;
      released = true;
    };
  }

  /**
   * @throws UsmLiteError as {@link Transcriber.transcribe}; ServiceError recognition_timeout, worker_lost
   */
  submit(job: Job): Promise<Heard> {
    return new Promise((resolve, reject) => {
      const { signal } = job;
      if (signal?.aborted) return reject(aborted());
      const abort = (): void => this.abandon(ticket, aborted());
      const ticket: Ticket = {
        job,
        submitted: performance.now(),
        started: undefined,
        losses: 0,
        suspect: false,
        abandoned: false,
        run: undefined,
        timer: undefined,
        settle: (outcome) => {
          clearTimeout(ticket.timer);
          signal?.removeEventListener("abort", abort);
          job.onReport?.(reportOf(ticket));
          if ("error" in outcome) reject(outcome.error);
          else resolve(outcome);
        },
      };
      signal?.addEventListener("abort", abort, { once: true });
      if (typeof job.audio === "string") this.queue.push(ticket, job.client, job.cost);
      else this.live.push(ticket);
      this.pump();
    });
  }

  private start(ticket: Ticket): boolean {
    const { job } = ticket;
    const most = typeof job.audio === "string" ? this.options.maximumBatch : Infinity;
    const run: Run | undefined = this.engine.run(
      {
        onAnswer: (answer) => {
          if (answer.kind === "partial") return job.onPartial?.(answer);
          this.leave(ticket);
          if (answer.kind === "done") ticket.settle({ speech: answer.transcript, vocabulary: (run as Run).vocabulary });
          else ticket.settle({ error: new UsmLiteError(answer.code, answer.message) });
          this.pump();
        },
        onLost: (message) => this.lost(ticket, message),
      },
      most,
    );
    if (!run) return false;
    this.running.add(ticket);
    ticket.run = run;
    ticket.started ??= performance.now();
    ticket.suspect = ticket.losses > 0 && typeof job.audio === "string";
    if (ticket.suspect) this.suspectRunning = true;
    if (typeof job.audio === "string") {
      run.send({ kind: "transcribe", audio: job.audio, options: job.options });
      ticket.timer = setTimeout(() => this.timedOut(ticket), this.options.timeoutMs);
    } else {
      run.send({ kind: "listen", options: job.options });
      job.audio.attach(run);
    }
    return true;
  }

  private lost(ticket: Ticket, message: string): void {
    this.leave(ticket);
    ticket.losses++;
    if (ticket.abandoned) ticket.settle({ error: aborted() });
    else if (ticket.losses < maximumLosses) (typeof ticket.job.audio === "string" ? this.suspects : this.live).push(ticket);
    else
      ticket.settle({ error: new ServiceError("worker_lost", `${ticket.losses} workers ended while they had this recording: ${message}`) });
    this.pump();
  }

  private timedOut(ticket: Ticket): void {
    const seconds = this.options.timeoutMs / 1000;
    this.abandon(ticket, new ServiceError("recognition_timeout", `the recording was not recognised within ${seconds} s`));
  }

  /** Gives a recording up, wherever it is. */
  private abandon(ticket: Ticket, error: Error): void {
    const { run } = ticket;
    this.queue.remove(ticket);
    this.suspects = this.suspects.filter((other) => other !== ticket);
    this.live = this.live.filter((other) => other !== ticket);
    ticket.settle({ error });
    if (!run) return;
    run.send({ kind: "abort" });
    // Its place is taken until the worker has left it, which it says.
    clearTimeout(ticket.timer);
    ticket.timer = setTimeout(() => run.killEngine(), abortGraceMs);
    ticket.abandoned = true;
    ticket.settle = () => undefined;
  }

  private leave(ticket: Ticket): void {
    if (ticket.suspect) this.suspectRunning = false;
    ticket.suspect = false;
    clearTimeout(ticket.timer);
    ticket.run?.release();
    ticket.run = undefined;
    if (typeof ticket.job.audio !== "string") ticket.job.audio.detach();
    this.running.delete(ticket);
  }

  /** A rough guess, for `Retry-After`: how long the work at hand takes, at the pace of the recordings under way. */
  private retryAfterSeconds(): number {
    const now = performance.now();
    const ages = [...this.running].map(({ started }) => (now - (started ?? now)) / 1000);
    const mean = ages.length === 0 ? 0 : ages.reduce((a, b) => a + b) / ages.length;
    return Math.min(60, Math.max(1, Math.ceil(mean)));
  }
}

const aborted = (): UsmLiteError => new UsmLiteError("ABORTED", "the request was abandoned by its client");

function reportOf({ submitted, started, losses }: Ticket): JobReport {
  const now = performance.now();
  return {
    queueSeconds: ((started ?? now) - submitted) / 1000,
    recognitionSeconds: started === undefined ? 0 : (now - started) / 1000,
    attempts: losses,
  };
}
