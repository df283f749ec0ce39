/**
 * Latency of live speech: streams at the pace of speech to a server of its own.
 *
 * `node dist/bench/live_streams.js [--streams 8] [--seconds 20] [--json FILE]`
 */
import "../lib/cli/one_line_failures.js";
import { parseArgs } from "node:util";
import { writeFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { WebSocket } from "ws";
import { exampleSpeech } from "./example_speech.js";
import { percentile } from "./load.js";
import { ServerProcess } from "./server_process.js";

const { values } = parseArgs({
  options: { streams: { type: "string", default: "8" }, seconds: { type: "string", default: "20" }, json: { type: "string" } },
});
const [streams, seconds] = [Number(values.streams), Number(values.seconds)];
const blockSeconds = 0.1;
const rate = 16_000;
const { utterances } = await exampleSpeech();
const speech = utterances[0] as Float32Array;
const server = await ServerProcess.start("dist/lib/cli/main.js", ["serve", "--port", "0", "--log-level", "error"]);
const url = (server.greeting.split(" at ")[1] as string).replace("http", "ws");

/** Milliseconds from the arrival of audio to the text that covers it, and from the end of a turn to its transcript. */
const partials: number[] = [];
const finals: number[] = [];

async function stream(index: number): Promise<void> {
  const socket = new WebSocket(`${url}/v1/realtime?intent=transcription`);
  const send = (event: object): void => socket.send(JSON.stringify(event));
  let committed = 0;
  const done = new Promise<void>((resolve, reject) => {
    socket.on("error", reject);
    socket.on("message", (data: Buffer) => {
      const event = JSON.parse(data.toString()) as { type: string; latency_ms?: number };
      // What is told after the commit belongs to the transcript.
      if (event.type.endsWith("transcription.delta") && !committed) partials.push(event.latency_ms as number);
      if (!event.type.endsWith("transcription.completed")) return;
      finals.push(performance.now() - committed);
      resolve();
    });
  });
  await new Promise((resolve) => socket.once("open", resolve));
  send({ type: "session.update", session: { audio: { input: { format: { type: "audio/pcm", rate }, turn_detection: null } } } });
  await sleep((index * 1000 * blockSeconds) / streams);
  const started = performance.now();
  for (let block = 0; block * blockSeconds < seconds; block++) {
    const bytes = Buffer.alloc(2 * blockSeconds * rate);
    for (let i = 0; i < bytes.length / 2; i++) {
      bytes.writeInt16LE(Math.round(32767 * (speech[(i + block * blockSeconds * rate + 5000 * index) % speech.length] as number)), 2 * i);
    }
    socket.send(bytes);
    await sleep(Math.max(0, started + (block + 1) * 1000 * blockSeconds - performance.now()));
  }
  committed = performance.now();
  send({ type: "input_audio_buffer.commit" });
  await done;
  socket.close();
}

try {
  const before = server.cpuSeconds;
  await Promise.all(Array.from({ length: streams }, (_, index) => stream(index)));
  const summary = (latencies: readonly number[]) => ({
    count: latencies.length,
    p50: percentile(latencies, 0.5),
    p95: percentile(latencies, 0.95),
    p99: percentile(latencies, 0.99),
  });
  const result = {
    streams,
    seconds,
    coresUsed: (server.cpuSeconds - before) / seconds,
    partialMs: summary(partials),
    finalMs: summary(finals),
  };
  console.log(JSON.stringify(result, undefined, 2));
  if (values.json) writeFileSync(values.json, `${JSON.stringify(result, undefined, 2)}\n`);
} finally {
  await server.stop();
}
