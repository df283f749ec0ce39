/** Does the jobs of a {@link BatchQueue} on this machine, until it is told to end. */
import { existsSync } from "node:fs";
import { availableParallelism } from "node:os";
import { dirname } from "node:path";
import { UnrecoverableError, Worker, type Job } from "bullmq";
import type { Redis } from "ioredis";
import { writeTextFile } from "../../checkpoint/atomic_file.js";
import { makeFolder } from "../../checkpoint/atomic_folder.js";
import { UsmLiteError, type UsmLiteErrorCode } from "../../errors.js";
import { defaultModelFolder } from "../../models/default_model.js";
import { formatTranscript } from "../../text/transcript_formats.js";
import { defaultMaximumHours } from "../../transcribe/transcriber.js";
import { Dispatcher } from "../engine/dispatcher.js";
import { Engine, maximumThreads } from "../engine/engine.js";
import { connectRedis, type BatchConnection, type BatchJob } from "./batch_queue.js";

export interface BatchWorkerOptions extends BatchConnection {
  readonly model?: string;
  /** Where encoders compute, as {@link loadModel} says; "cpu" by default. */
  readonly device?: "auto" | "cpu" | "cuda";
  /** How packed layers multiply on the GPU, as {@link loadModel} says; "bfloat16" by default. */
  readonly arithmetic?: "bfloat16" | "int8";
  /** Whether what the GPU hears in a recording does not depend on what it hears with it, as {@link loadModel} says; true by default. */
  readonly batchInvariant?: boolean;
  readonly decoder?: "greedy" | "beam";
  /** Code such as "en" of what is said, which models of several languages are told. */
  readonly language?: string;
  /** Worker threads; one per core when absent. */
  readonly workers?: number;
  /** Recordings that a worker thread has at once; default 8. */
  readonly maximumBatch?: number;
  readonly maximumSeconds?: number;
  /**
   * A job whose machine has not been heard of for so long is given to another one; default 30. A machine that is alive
   * says so twice in this time, however long its recording.
   */
  readonly lockSeconds?: number;
  /** Told of each job that ended, well or not. */
  readonly onJob?: (event: { readonly job: BatchJob; readonly error?: Error }) => void;
}

/** Times a job may lose its machine before it is a dead letter: it may be what ends machines. */
const maximumStalled = 3;
const recognitionTimeoutMs = 3_600_000;

/** What another try does not mend. */
const permanent: ReadonlySet<UsmLiteErrorCode> = new Set(["BAD_AUDIO", "AUDIO_TOO_LONG", "FILE_NOT_FOUND", "INVALID_ARGUMENT"]);

export class BatchWorker implements AsyncDisposable {
  private dispatcher: Dispatcher | undefined;

  private constructor(
    private readonly redis: Redis,
    private readonly engine: Engine,
    private readonly worker: Worker<BatchJob>,
  ) {}

  /** @throws UsmLiteError SERVICE_UNREACHABLE, INVALID_ARGUMENT, and what {@link loadModel} throws */
  static async start(options: BatchWorkerOptions): Promise<BatchWorker> {
    const { model = defaultModelFolder, workers = availableParallelism(), maximumBatch = 8, lockSeconds = 30 } = options;
    const { device, arithmetic, batchInvariant, decoder, language, onJob } = options;
    const maximumSeconds = options.maximumSeconds ?? defaultMaximumHours * 3600;
    const redis = await connectRedis(options);
    let batch: BatchWorker | undefined;
    try {
      const engine = await Engine.start(
        {
          model,
          workers,
          maximumBatch,
          maximumSeconds,
          ...(device ? { device } : {}),
          ...(arithmetic ? { arithmetic } : {}),
          ...(batchInvariant === undefined ? {} : { batchInvariant }),
          ...(decoder ? { decoder } : {}),
          ...(language === undefined ? {} : { servedLanguage: language }),
        },
        Math.min(availableParallelism(), maximumThreads),
        { onReady: () => batch?.dispatcher?.pump(), onPass: () => undefined, onMemory: () => undefined, onCrash: () => undefined },
      );
      const dispatcher = new Dispatcher(engine, { maximumBatch, maximumQueue: Infinity, timeoutMs: recognitionTimeoutMs });
      const worker = new Worker<BatchJob>(options.queue, (job) => transcribe(job, dispatcher), {
        connection: redis,
        concurrency: workers * maximumBatch,
        lockDuration: lockSeconds * 1000,
        stalledInterval: (lockSeconds * 1000) / 2,
        maxStalledCount: maximumStalled,
      });
      worker.on("error", () => undefined); // Redis is gone for a while; it is tried again
      worker.on("completed", ({ data }) => onJob?.({ job: data }));
      worker.on("failed", (job, error) => job && onJob?.({ job: job.data, error }));
      batch = new BatchWorker(redis, engine, worker);
      batch.dispatcher = dispatcher;
      return batch;
    } catch (error) {
      redis.disconnect();
      throw error;
    }
  }

  /** Takes no new jobs, finishes those under way, and ends. */
  async close(): Promise<void> {
    await this.worker.close();
    await this.engine.close();
    this.redis.disconnect();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** Whatever happens on the way, the output is there whole or not at all. */
async function transcribe({ data }: Job<BatchJob>, dispatcher: Dispatcher): Promise<void> {
  const { audio, output, format, keywords } = data;
  if (existsSync(output)) return; // a machine that was lost had come so far
  try {
    const { speech } = await dispatcher.submit({ client: "batch", cost: 1, audio, options: { hotwords: keywords } });
    makeFolder(dirname(output));
    writeTextFile(output, formatTranscript(speech, format));
  } catch (error) {
    if (error instanceof UsmLiteError && permanent.has(error.code)) throw new UnrecoverableError(`${error.message} [${error.code}]`);
    throw error;
  }
}
