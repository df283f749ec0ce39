/**
 * Large archives through a queue that many machines share: BullMQ on Redis. A job names a recording and the file that its
 * transcript becomes; both lie where every machine sees them. Jobs are delivered at least once, and doing one twice makes
 * the same file.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { isAbsolute, join, relative, resolve, sep } from "node:path";
import { Queue, type Job } from "bullmq";
import { Redis } from "ioredis";
import { hotwordText } from "../../decode/hotword_scorer.js";
import { UsmLiteError } from "../../errors.js";
import type { TranscriptFormat } from "../../text/transcript_formats.js";

export interface BatchJob {
  /** Absolute paths. */
  readonly audio: string;
  readonly output: string;
  readonly format: TranscriptFormat;
  readonly keywords: readonly string[];
}

export interface BatchConnection {
  /** `redis://`, `rediss://`, or the path of a socket. */
  readonly redis: string;
  readonly queue: string;
}

/** A job that will not be tried again: a dead letter. */
export interface DeadLetter {
  readonly audio: string;
  readonly output: string;
  readonly reason: string;
  readonly attempts: number;
}

export interface BatchStatus {
  readonly waiting: number;
  readonly active: number;
  /** Waiting for another try. */
  readonly delayed: number;
  readonly completed: number;
  readonly dead: number;
}

/** Where transcripts go, and what is in them. */
export interface TranscriptOptions {
  /** Folder that the outputs go to. */
  readonly out: string;
  /** Outputs lie below `out` as the recordings lie below this folder. */
  readonly base: string;
  readonly format: TranscriptFormat;
  readonly keywords: readonly string[];
}

export interface TryOptions {
  /** Tries before a job is a dead letter. */
  readonly attempts: number;
  /** Before the second try; doubled before each one after that. */
  readonly backoffMs: number;
}

const connectTimeoutMs = 5000;
const jobsPerCall = 1000;
/** Finished jobs that Redis remembers: the outputs are what counts. */
const keptCompleted = 10_000;

/** The extension of a format's files. */
const extensions: Record<TranscriptFormat, string> = { text: "txt", json: "json", verbose_json: "json", srt: "srt", vtt: "vtt" };

/**
 * The jobs of recordings, of which each has an output of its own.
 * @throws UsmLiteError INVALID_ARGUMENT when a recording does not lie below `base`, or a keyword has no letters
 */
export function jobsOf(recordings: readonly string[], { out, base, format, keywords }: TranscriptOptions): BatchJob[] {
  for (const keyword of keywords) hotwordText(keyword); // or every job would be a dead letter
  return recordings.map((recording) => {
    const audio = resolve(recording);
    const below = relative(resolve(base), audio);
    if (below === "" || below === ".." || below.startsWith(`..${sep}`) || isAbsolute(below)) {
      throw new UsmLiteError("INVALID_ARGUMENT", `${recording} does not lie below ${base}; name a folder above all recordings with --base`);
    }
    return { audio, output: join(resolve(out), `${below}.${extensions[format]}`), format, keywords };
  });
}

/**
 * A connection that waits for Redis to come back once it has been there.
 * @throws UsmLiteError SERVICE_UNREACHABLE, INVALID_ARGUMENT for an address of another protocol or a name that no queue can have
 */
export async function connectRedis({ redis: address, queue }: BatchConnection): Promise<Redis> {
  if (queue === "" || queue.includes(":")) {
    throw new UsmLiteError("INVALID_ARGUMENT", `no queue can have the name ${JSON.stringify(queue)}; give it one without ":"`);
  }
  const [, protocol] = /^(\w+):\/\//.exec(address) ?? [];
  if (protocol !== undefined && !["redis", "rediss", "unix"].includes(protocol)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${withoutPassword(address)} is no address of Redis; it begins with redis:// or rediss://`);
  }
  let connected = false;
  const redis = new Redis(address, {
    lazyConnect: true,
    connectTimeout: connectTimeoutMs,
    maxRetriesPerRequest: null,
    retryStrategy: (tries) => (connected ? Math.min(100 * tries, 5000) : null),
  });
  redis.on("error", () => undefined); // it is tried again; what waits for it waits
  try {
    await redis.connect();
    connected = true;
    return redis;
  } catch (cause) {
    redis.disconnect();
    const reason = (cause as Error).message.replace(/\.$/, "");
    throw new UsmLiteError(
      "SERVICE_UNREACHABLE",
      `no Redis answers at ${withoutPassword(address)}: ${reason}; --redis or REDIS_URL says where it is`,
      { cause },
    );
  }
}

export class BatchQueue implements AsyncDisposable {
  private constructor(
    private readonly redis: Redis,
    private readonly queue: Queue<BatchJob>,
  ) {}

  /** @throws UsmLiteError SERVICE_UNREACHABLE, INVALID_ARGUMENT */
  static async open(connection: BatchConnection): Promise<BatchQueue> {
    const redis = await connectRedis(connection);
    return new BatchQueue(redis, new Queue<BatchJob>(connection.queue, { connection: redis }));
  }

  /**
   * Adds the jobs that have no output yet. Adding the same again changes nothing.
   * @returns how many have been added, and how many are done already
   */
  async add(jobs: readonly BatchJob[], { attempts, backoffMs }: TryOptions): Promise<{ added: number; done: number }> {
    const open = jobs.filter(({ output }) => !existsSync(output));
    const options = {
      attempts,
      backoff: { type: "exponential", delay: backoffMs },
      removeOnComplete: { count: keptCompleted },
    };
    let added = 0;
    for (let begin = 0; begin < open.length; begin += jobsPerCall) {
      const part = open.slice(begin, begin + jobsPerCall);
      // A finished job whose output is gone is to be done again.
      for (const job of part) await this.forgetFinished(idOf(job));
      await this.queue.addBulk(part.map((data) => ({ name: "transcribe", data, opts: { ...options, jobId: idOf(data) } })));
      added += part.length;
    }
    return { added, done: jobs.length - open.length };
  }

  async status(): Promise<BatchStatus> {
    const counts = await this.queue.getJobCounts("waiting", "active", "delayed", "completed", "failed");
    const count = (state: string): number => counts[state] ?? 0;
    return {
      waiting: count("waiting"),
      active: count("active"),
      delayed: count("delayed"),
      completed: count("completed"),
      dead: count("failed"),
    };
  }

  async deadLetters(): Promise<DeadLetter[]> {
    const jobs = await this.queue.getFailed();
    return jobs.map(({ data, failedReason, attemptsMade }) => ({
      audio: data.audio,
      output: data.output,
      reason: failedReason,
      attempts: attemptsMade,
    }));
  }

  /** Gives every dead letter all its tries again; returns how many there were. */
  async retryDeadLetters(): Promise<number> {
    const jobs = await this.queue.getFailed();
    for (const job of jobs) await job.retry("failed", { resetAttemptsMade: true, resetAttemptsStarted: true });
    return jobs.length;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.queue.close();
    this.redis.disconnect();
  }

  private async forgetFinished(id: string): Promise<void> {
    const job = (await this.queue.getJob(id)) as Job<BatchJob> | undefined;
    if (job && (await job.isCompleted())) await job.remove();
  }
}

/** The same recording, output and settings are the same job. */
function idOf({ audio, output, format, keywords }: BatchJob): string {
  return createHash("sha256")
    .update(JSON.stringify([audio, output, format, keywords]))
    .digest("hex");
}

const withoutPassword = (address: string): string => address.replace(/\/\/[^@/]*@/, "//");
