/**
 * Shared forward passes for recordings that are recognized at the same time. Each hands in one chunk after another and
 * waits for what the network says about it; whichever chunks wait when a pass begins share it. A recording
 * may join or end at any pass, so a short one never waits for a long one to end (continuous batching, as in Orca, Yu et
 * al., OSDI 2022).
 */
import { UsmLiteError } from "../errors.js";
import type { OptionNames } from "../known_options.js";
import type { Outcome } from "../outcome.js";

export interface BatchingOptions {
  /** Most chunks of one pass; default 8. */
  readonly maximumBatch?: number;
  /** Longest wait of a pass, in milliseconds, for recordings that are being read; default 5. */
  readonly maximumWaitMs?: number;
}

export const batchingOptionNames: OptionNames<BatchingOptions> = { maximumBatch: true, maximumWaitMs: true };

const defaultBatching = { maximumBatch: 8, maximumWaitMs: 5 } as const;

/** What one pass did. */
export interface PassStatistics {
  readonly chunks: number;
  readonly audioSeconds: number;
  /** From its beginning, or the end of the pass before it. Passes whose results stay on a GPU end when they have been asked for. */
  readonly milliseconds: number;
}

/** What computes: a {@link Recognizer} hears chunks, a {@link WindowDecoder} windows. */
export interface ForwardPass<Chunk, Output> {
  /** An error for each chunk that something is wrong with; whatever concerns all of them is thrown. */
  outcomes(chunks: readonly Chunk[]): Outcome<Output>[];
  /** Asks for a pass that goes on alone; what it returns waits for it. Absent where passes keep this thread busy until they are done. */
  readonly begin?: ((chunks: readonly Chunk[]) => () => Outcome<Output>[]) | undefined;
  /** Of audio. */
  seconds(chunk: Chunk): number;
  /** Most of one pass, unless a chunk alone has more: bounds memory, and how long a chunk that is in a hurry may have to wait. */
  readonly secondsPerPass: number;
}

export interface ForwardOptions {
  /** Of chunks that do not fit into one pass, those with the earliest deadline go first; {@link performance.now} scale. */
  readonly deadline: number;
  readonly signal?: AbortSignal;
  /** Of a recording that joined ({@link ForwardBatcher.join}); default true. */
  readonly expected?: boolean;
}

interface Waiting<Chunk, Output> extends ForwardOptions {
  readonly chunk: Chunk;
  readonly expected: boolean;
  resolve(output: Output): void;
  reject(error: unknown): void;
}

/** A pass that was asked for and is not waited for yet. */
interface PassUnderWay<Chunk, Output> {
  readonly batch: readonly Waiting<Chunk, Output>[];
  readonly started: number;
  readonly finish: () => Outcome<Output>[];
}

export class ForwardBatcher<Chunk, Output> {
  private readonly maximumBatch: number;
  private readonly maximumWaitMs: number;
  private waiting: Waiting<Chunk, Output>[] = [];
  private joined = 0;
  private timer: NodeJS.Timeout | undefined;
  private scheduled: NodeJS.Immediate | undefined;
  private underWay: PassUnderWay<Chunk, Output> | undefined;
  /** When the last pass ended. */
  private ended = 0;

  constructor(
    private readonly network: ForwardPass<Chunk, Output>,
    options: BatchingOptions = {},
    private readonly onPass: (statistics: PassStatistics) => void = () => undefined,
  ) {
    this.maximumBatch = options.maximumBatch ?? defaultBatching.maximumBatch;
    this.maximumWaitMs = options.maximumWaitMs ?? defaultBatching.maximumWaitMs;
  }

  /** Announces a recording whose chunks are worth waiting for, until {@link ForwardBatcher.leave}. */
  join(): void {
    this.joined++;
  }

  leave(): void {
    this.joined--;
    this.schedule();
  }

  /**
   * What the network says about `chunk`, which does not depend on what else is in the pass.
   * @throws UsmLiteError ABORTED when the signal was aborted before the pass began; what is wrong with the chunk, or with the whole pass
   */
  forward(chunk: Chunk, { deadline, signal, expected = true }: ForwardOptions): Promise<Output> {
    return new Promise((resolve, reject) => {
      this.waiting.push({ deadline, ...(signal && { signal }), chunk, expected, resolve, reject });
      this.schedule();
    });
  }

  /** Messages and files are attended to between passes: a pass begins in a turn of the event loop of its own. */
  private schedule(): void {
    if ((this.waiting.length === 0 && !this.underWay) || this.scheduled) return;
    if (this.underWay || this.complete()) {
      clearTimeout(this.timer);
      this.timer = undefined;
      this.scheduled = setImmediate(() => this.pass());
    } else {
      this.timer ??= setTimeout(() => {
        this.timer = undefined;
        if (this.waiting.length > 0) this.scheduled ??= setImmediate(() => this.pass());
      }, this.maximumWaitMs);
    }
  }

  /** Nothing is gained by waiting: the pass is full, or everyone who is expected is here. */
  private complete(): boolean {
    return this.waiting.length >= this.maximumBatch || this.waiting.filter(({ expected }) => expected).length >= this.joined;
  }

  private pass(): void {
    this.scheduled = undefined;
    const current = this.underWay ?? this.begin();
    // A GPU need not wait until what this pass says has been searched, if there is enough for another one.
    this.underWay = this.network.begin && this.fillsPass() ? this.begin() : undefined;
    if (current) this.finish(current);
    // After what the network said has been searched, and the recordings have handed in what comes next if they have it.
    setImmediate(() => this.schedule());
  }

  private begin(): PassUnderWay<Chunk, Output> | undefined {
    const batch = this.take();
    if (batch.length === 0) return undefined;
    const chunks = batch.map(({ chunk }) => chunk);
    const started = performance.now();
    try {
      return { batch, started, finish: this.network.begin?.(chunks) ?? (() => this.network.outcomes(chunks)) };
    } catch (error) {
      for (const { reject } of batch) reject(error);
      return undefined;
    }
  }

  private finish({ batch, started, finish }: PassUnderWay<Chunk, Output>): void {
    try {
      const outcomes = finish();
      const audioSeconds = batch.reduce((sum, { chunk }) => sum + this.network.seconds(chunk), 0);
      const milliseconds = performance.now() - Math.max(started, this.ended);
      this.ended = performance.now();
      this.onPass({ chunks: batch.length, audioSeconds, milliseconds });
      batch.forEach(({ resolve, reject }, index) => {
        const outcome = outcomes[index] as Outcome<Output>;
        if (outcome instanceof UsmLiteError) reject(outcome);
        else resolve(outcome);
      });
    } catch (error) {
      for (const { reject } of batch) reject(error);
    }
  }

  /** Whether those who wait are as many as a pass takes, or more. */
  private fillsPass(): boolean {
    const seconds = this.waiting.reduce((sum, { chunk }) => sum + this.network.seconds(chunk), 0);
    return this.waiting.length >= this.maximumBatch || seconds >= this.network.secondsPerPass;
  }

  private take(): Waiting<Chunk, Output>[] {
    const aborted = new UsmLiteError("ABORTED", "the transcription was aborted");
    this.waiting = this.waiting.filter(({ signal, reject }) => !signal?.aborted || void reject(aborted));
    this.waiting.sort((a, b) => a.deadline - b.deadline);
    let seconds = 0;
    let count = 0;
    while (count < Math.min(this.maximumBatch, this.waiting.length)) {
      seconds += this.network.seconds((this.waiting[count] as Waiting<Chunk, Output>).chunk);
      if (count > 0 && seconds > this.network.secondsPerPass) break;
      count++;
    }
    return this.waiting.splice(0, count);
  }
}
