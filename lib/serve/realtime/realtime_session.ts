/** One connection to `/v1/realtime`: events in, audio cut into turns, events out. */
import { randomUUID } from "node:crypto";
import type { RawData, WebSocket } from "ws";
import type { Client } from "../api_keys.js";
import { errorResponse, RequestError } from "../http/openai_error.js";
import { logprobsOf, usageOf } from "../http/transcription_response.js";
import type { Service } from "../service.js";
import { AudioDecoder, sampleRate } from "./audio_format.js";
import { initialSession, parseClientEvent, sessionObject, updateSession, type ClientEvent, type SessionConfig } from "./client_events.js";
import { RecentSamples } from "./recent_samples.js";
import { Turn } from "./turn.js";
import { TurnDetector, type TurnEvent } from "./turn_detector.js";

/** A turn that is longer is committed as if its speaker had paused. */
export const maximumTurnSeconds = 120;
/** With more turns unanswered the connection is not read from, until there are fewer. */
const maximumUnanswered = 8;
/** Nor while its client has not taken this much of what was sent to it. */
const maximumUnsentBytes = 1 << 20;

const milliseconds = (samples: number): number => Math.round((samples * 1000) / sampleRate);
const newId = (kind: string): string => `${kind}_${randomUUID().replaceAll("-", "").slice(0, 24)}`;

export class RealtimeSession {
  readonly id = newId("sess");
  /** Begun so far. */
  turns = 0;
  private config: SessionConfig;
  private decoder: AudioDecoder;
  private detector: TurnDetector | undefined;
  /** The sample that the detector began at. */
  private detectorBegin = 0;
  /** The turn that audio goes to. */
  private turn: Turn | undefined;
  private readonly unanswered = new Set<Turn>();
  private lastItem: string | null = null;
  /** Samples since the connection began. */
  private position = 0;
  private heardAt = performance.now();
  /** The newest samples while nobody speaks: what may turn out to belong to a turn. */
  private readonly recent = new RecentSamples();

  constructor(
    private readonly socket: WebSocket,
    private readonly client: Client,
    private readonly service: Service,
  ) {
    this.config = initialSession(service.model);
    this.decoder = new AudioDecoder(this.config.format);
    this.detector = this.config.turnDetection && new TurnDetector(this.config.turnDetection);
    socket.on("message", (data: RawData, binary: boolean) => this.receive(data as Buffer, binary));
    socket.on("close", () => this.abandon());
    this.send({ type: "session.created", session: sessionObject(this.id, this.config) });
  }

  /** Since the connection began, or audio came. */
  get silentSeconds(): number {
    return (performance.now() - this.heardAt) / 1000;
  }

  /** Received so far. */
  get audioSeconds(): number {
    return this.position / sampleRate;
  }

  /** Ends what was said so far as a turn and answers every turn, then closes. */
  async drain(): Promise<void> {
    this.commit();
    while (this.unanswered.size > 0) await Promise.all([...this.unanswered].map(({ settled }) => settled));
    this.socket.close(1001, "the server is shutting down");
  }

  private receive(data: Buffer, binary: boolean): void {
    let event: ClientEvent | undefined;
    try {
      if (binary) return this.append(data); // shorter than base64 in JSON
      event = parseClientEvent(data.toString("utf8"));
      this.handle(event);
    } catch (error) {
      this.fail(error, event?.event_id ?? null);
    }
  }

  private handle(event: ClientEvent): void {
    switch (event.type) {
      case "session.update":
        this.update(updateSession(this.config, event, this.service.model));
        break;
      case "input_audio_buffer.append":
        this.append(Buffer.from(event.audio, "base64"));
        break;
      case "input_audio_buffer.commit":
        if (!this.turn && this.recent.length === 0) {
          throw new RequestError(400, "input_audio_buffer_commit_empty", "there is no audio to commit: append some first");
        }
        this.hear(this.decoder.finish());
        this.decoder = new AudioDecoder(this.config.format);
        this.turn ??= this.begin(this.recent.last(this.recentKept));
        this.commit();
        if (this.detector) this.detector = this.freshDetector(); // who goes on speaking begins a new turn
        break;
      case "input_audio_buffer.clear":
        this.discard();
        this.send({ type: "input_audio_buffer.cleared" });
        break;
    }
  }

  /** What lasts longer than a turn may is no live speech, and would keep everyone else waiting while it is decoded. */
  private append(bytes: Uint8Array): void {
    const seconds = this.decoder.seconds(bytes.length);
    if (seconds > maximumTurnSeconds) {
      throw new RequestError(
        400,
        "invalid_value",
        `a message holds ${seconds.toFixed(1)} s of audio; at most ${maximumTurnSeconds} s are allowed: send it in parts`,
        "audio",
      );
    }
    this.heardAt = performance.now();
    this.hear(this.decoder.push(bytes));
  }

  private update(config: SessionConfig): void {
    const { format, turnDetection } = this.config;
    this.config = config;
    if (JSON.stringify(config.format) !== JSON.stringify(format)) this.decoder = new AudioDecoder(config.format);
    if (JSON.stringify(config.turnDetection) !== JSON.stringify(turnDetection)) this.detector = this.freshDetector();
    this.send({ type: "session.updated", session: sessionObject(this.id, config) });
  }

  private freshDetector(): TurnDetector | undefined {
    this.detectorBegin = this.position;
    return this.config.turnDetection && new TurnDetector(this.config.turnDetection);
  }

  private hear(samples: Float32Array): void {
    if (samples.length === 0) return;
    if (!this.detector) {
      this.position += samples.length;
      this.turn ??= this.begin(new Float32Array(0));
      this.pushToTurn(samples);
      return;
    }
    const begin = this.position;
    this.position += samples.length;
    let taken = 0;
    for (const event of this.detector.push(samples)) {
      // The frame that decides may have begun in an earlier message, but it ends in this one.
      const end = this.detectorBegin + event.sample - begin;
      this.take(samples.subarray(taken, end));
      taken = end;
      if (event.kind === "started") this.started(event);
      else this.stopped(event);
    }
    this.take(samples.subarray(taken));
  }

  /** Samples between two decisions. */
  private take(samples: Float32Array): void {
    if (this.turn) return this.pushToTurn(samples);
    this.recent.push(samples, this.recentKept);
  }

  /** Samples that are kept while nobody speaks: what is loud for the first frames of a turn, and the padding before it. */
  private get recentKept(): number {
    const { prefixPaddingMs = 0 } = this.config.turnDetection ?? {};
    return ((prefixPaddingMs + 100) * sampleRate) / 1000;
  }

  private started({ speechSample, sample }: TurnEvent): void {
    const { prefixPaddingMs = 0 } = this.config.turnDetection ?? {};
    const wanted = sample - speechSample + (prefixPaddingMs * sampleRate) / 1000;
    // A buffer that was open before turns were to be detected has all of it already.
    const prefix = this.turn ? wanted : this.recent.last(wanted).length;
    const startMs = milliseconds(Math.max(0, this.detectorBegin + sample - prefix));
    this.turn ??= this.begin(this.recent.last(wanted));
    this.send({ type: "input_audio_buffer.speech_started", audio_start_ms: startMs, item_id: this.turn.itemId });
  }

  private stopped({ sample }: TurnEvent): void {
    if (!this.turn) return;
    this.send({
      type: "input_audio_buffer.speech_stopped",
      audio_end_ms: milliseconds(this.detectorBegin + sample),
      item_id: this.turn.itemId,
    });
    this.commit();
  }

  private pushToTurn(samples: Float32Array): void {
    const turn = this.turn as Turn;
    const room = Math.max(0, maximumTurnSeconds * sampleRate - turn.samples);
    const fitting = samples.slice(0, room); // a copy: what is kept must not keep the whole message
    if (fitting.length > 0) turn.push(fitting);
    if (samples.length <= room) return; // a turn that is full is the client's to commit, as long as nothing follows
    this.commit();
    this.turn = this.begin(samples.slice(room));
  }

  private begin(samples: Float32Array): Turn {
    const itemId = newId("item");
    this.turns++;
    const about = { item_id: itemId, content_index: 0 };
    const turn = new Turn(
      itemId,
      this.service,
      { client: this.client.name, keywords: this.config.keywords, speaker: this.config.speaker },
      {
        onDelta: (delta, latencyMs) =>
          this.send({ type: "conversation.item.input_audio_transcription.delta", ...about, delta, latency_ms: latencyMs }),
        onCompleted: ({ speech, vocabulary }) =>
          this.send({
            type: "conversation.item.input_audio_transcription.completed",
            ...about,
            transcript: speech.text,
            usage: usageOf(speech),
            ...(this.config.logprobs ? { logprobs: logprobsOf(speech, vocabulary) } : {}),
          }),
        onFailed: (error) => {
          const { status, body } = errorResponse(error);
          if (status >= 500) this.service.log.error({ err: error, session: this.id }, "a turn failed");
          this.send({ type: "conversation.item.input_audio_transcription.failed", ...about, error: body.error });
        },
      },
    );
    if (samples.length > 0) turn.push(samples.slice());
    this.recent.clear();
    return turn;
  }

  private commit(): void {
    const { turn } = this;
    this.turn = undefined;
    if (!turn) return;
    turn.end();
    this.send({ type: "input_audio_buffer.committed", item_id: turn.itemId, previous_item_id: this.lastItem });
    this.lastItem = turn.itemId;
    this.unanswered.add(turn);
    this.pace();
    void turn.settled.then(() => {
      this.unanswered.delete(turn);
      this.pace();
    });
  }

  /** Its client sends faster than answers go out. */
  get isClogged(): boolean {
    return this.socket.bufferedAmount > maximumUnsentBytes;
  }

  /** Reads on, or does not. */
  private pace(): void {
    const wait = this.unanswered.size >= maximumUnanswered || this.isClogged;
    if (wait && !this.socket.isPaused) this.socket.pause();
    else if (!wait && this.socket.isPaused) this.socket.resume();
  }

  private discard(): void {
    this.turn?.abandon();
    this.turn = undefined;
    this.recent.clear();
    this.decoder = new AudioDecoder(this.config.format); // the old one may keep half a sample
    if (this.detector) this.detector = this.freshDetector();
  }

  private abandon(): void {
    this.turn?.abandon();
    for (const turn of this.unanswered) turn.abandon();
  }

  private fail(error: unknown, eventId: string | null): void {
    const { status, body } = errorResponse(error);
    if (status >= 500) this.service.log.error({ err: error, session: this.id }, "an event failed");
    this.send({ type: "error", error: { ...body.error, event_id: eventId } });
  }

  private send(event: { readonly type: string; readonly [field: string]: unknown }): void {
    if (this.socket.readyState !== this.socket.OPEN) return;
    this.socket.send(JSON.stringify({ event_id: newId("event"), ...event }), () => this.pace());
    this.pace();
  }
}
