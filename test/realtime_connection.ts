/** A client of `/v1/realtime` as tests need it. */
import { WebSocket } from "ws";
import type { Server } from "../lib/serve/server.js";
import { until } from "./serving.js";

export interface RealtimeEvent {
  readonly type: string;
  readonly [field: string]: unknown;
}

/** A connection that keeps every event it gets. */
export class Connection {
  readonly events: RealtimeEvent[] = [];
  closed: number | undefined;
  readonly socket: WebSocket;

  constructor(to: Server, options: { headers?: Record<string, string>; protocols?: string[] } = {}) {
    this.socket = new WebSocket(`${to.url.replace("http", "ws")}/v1/realtime?intent=transcription`, options.protocols ?? [], {
      headers: options.headers ?? {},
    });
    this.socket.on("message", (data: Buffer) => this.events.push(JSON.parse(data.toString("utf8")) as RealtimeEvent));
    this.socket.on("close", (code) => (this.closed = code));
    this.socket.on("error", () => undefined);
  }

  send(event: object): void {
    this.socket.send(JSON.stringify(event));
  }

  of(type: string): RealtimeEvent[] {
    return this.events.filter((event) => event.type === type);
  }

  /** The `count`th event of a type. */
  async next(type: string, count = 1): Promise<RealtimeEvent> {
    await until(() => this.of(type).length >= count || this.closed !== undefined);
    return this.of(type)[count - 1] as RealtimeEvent;
  }

  append(audio: Uint8Array, block = 4801): void {
    for (let begin = 0; begin < audio.length; begin += block) {
      this.send({ type: "input_audio_buffer.append", audio: Buffer.from(audio.subarray(begin, begin + block)).toString("base64") });
    }
  }

  async configure(input: object, include: string[] | null = null): Promise<void> {
    await this.next("session.created");
    const count = this.of("session.updated").length;
    this.send({ type: "session.update", session: { type: "transcription", audio: { input }, include } });
    await this.next("session.updated", count + 1);
  }
}

/** Samples as `audio/pcm` carries them. */
export function pcm16(samples: Float32Array): Buffer {
  const bytes = Buffer.alloc(2 * samples.length);
  samples.forEach((value, i) => bytes.writeInt16LE(Math.max(-32768, Math.min(32767, Math.round(value * 32768))), 2 * i));
  return bytes;
}
