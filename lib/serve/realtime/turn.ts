/** One turn of a realtime session: somebody's speech from its beginning to its transcript. */
import type { Heard } from "../engine/dispatcher.js";
import { LiveAudio } from "../engine/live_audio.js";
import type { Service } from "../service.js";
import { ArrivalClock } from "./arrival_clock.js";
import { sampleRate } from "./audio_format.js";

/** What a turn tells its session. */
export interface TurnListener {
  /** Text that is new; with what was told before it makes the text so far. */
  onDelta(delta: string, latencyMs: number): void;
  onCompleted(heard: Heard): void;
  onFailed(error: unknown): void;
}

export class Turn {
  /** Resolves when the listener was told how it ended. */
  readonly settled: Promise<void>;
  samples = 0;
  private readonly audio = new LiveAudio();
  private readonly clock = new ArrivalClock();
  private readonly controller = new AbortController();
  private told = "";
  private ended: number | undefined;

  constructor(
    readonly itemId: string,
    private readonly service: Service,
    options: { readonly client: string; readonly keywords: readonly string[]; readonly speaker: string | undefined },
    private readonly listener: TurnListener,
  ) {
    const { dispatcher, metrics } = service;
    this.settled = dispatcher
      .submit({
        client: options.client,
        cost: 0,
        audio: this.audio,
        options: { hotwords: options.keywords, partials: true, ...(options.speaker === undefined ? {} : { speaker: options.speaker }) },
        signal: this.controller.signal,
        onPartial: ({ text, settledSeconds }) => this.tell(text, settledSeconds),
      })
      .then(
        (heard) => {
          const { speech } = heard;
          metrics.audioSeconds.inc(speech.duration);
          if (this.ended !== undefined) metrics.finalSeconds.observe((performance.now() - this.ended) / 1000);
          this.tell(speech.text, speech.duration);
          listener.onCompleted(heard);
        },
        (error: unknown) => {
          if (!this.controller.signal.aborted) listener.onFailed(error);
        },
      );
  }

  push(samples: Float32Array): void {
    this.samples += samples.length;
    this.clock.note(this.samples, performance.now());
    this.audio.push(samples);
  }

  /** No more comes; the transcript does. */
  end(): void {
    this.ended = performance.now();
    this.audio.end();
  }

  /** Forgets it; the listener hears nothing more. */
  abandon(): void {
    this.controller.abort();
  }

  /** Text that does not continue what was told is kept back: the transcript will say it. */
  private tell(text: string, settledSeconds: number): void {
    if (text.length <= this.told.length || !text.startsWith(this.told)) return;
    const now = performance.now();
    const arrival = this.clock.arrivalOf(Math.min(this.samples, Math.floor(settledSeconds * sampleRate))) ?? now;
    this.service.metrics.partialSeconds.observe((now - arrival) / 1000);
    this.listener.onDelta(text.slice(this.told.length), Math.round(now - arrival));
    this.told = text;
  }
}
