import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import OpenAI from "openai";
import { OpenAIRealtimeWS } from "openai/realtime/ws";
import { WebSocket } from "ws";
import { loadModel, Recognizer, resample } from "../lib/index.js";
import { AudioDecoder } from "../lib/serve/realtime/audio_format.js";
import type { Server } from "../lib/serve/server.js";
import { Connection, pcm16 } from "./realtime_connection.js";
import { metric, servingFolder, startServer, until } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-realtime");
const recognizer = new Recognizer(loadModel(folder.model));
let server: Server;
test.before(async () => {
  server = await startServer(folder.model, { maximumStreams: 100 });
});
test.after.always(async () => {
  await server?.close();
  folder.clean();
});
const decoded = (bytes: Buffer): Float32Array =>
  Float32Array.from({ length: bytes.length / 2 }, (_, i) => bytes.readInt16LE(2 * i) / 32768);
const completed = "conversation.item.input_audio_transcription.completed";
const delta = "conversation.item.input_audio_transcription.delta";
const pcm = (rate: number) => ({ type: "audio/pcm", rate });

test("a committed buffer is transcribed like a file, with text before its end", async (t) => {
  const connection = new Connection(server);
  await connection.configure({ format: pcm(16000), turn_detection: null, transcription: { model: "tiny", language: "en" } }, [
    "item.input_audio_transcription.logprobs",
  ]);
  const bytes = pcm16(tones(6, 1));
  const expected = recognizer.transcribe(decoded(bytes));
  connection.append(bytes);
  const first = await connection.next(delta);
  t.is(connection.of("input_audio_buffer.committed").length, 0, "it came while the buffer was open");
  t.true((first["latency_ms"] as number) >= 0);
  connection.send({ type: "input_audio_buffer.commit" });
  const done = await connection.next(completed);
  t.is(done["transcript"], expected.text);
  t.deepEqual(done["usage"], { type: "duration", seconds: 6 });
  t.is((done["logprobs"] as unknown[]).length, expected.tokens.length);
  const item = done["item_id"];
  t.true(connection.of(delta).every((event) => event["item_id"] === item));
  t.like(connection.of("input_audio_buffer.committed")[0], { item_id: item, previous_item_id: null });
  connection.socket.send(pcm16(tones(1, 2))); // binary messages are audio too
  connection.send({ type: "input_audio_buffer.commit" });
  t.is((await connection.next(completed, 2))["transcript"], recognizer.transcribe(decoded(pcm16(tones(1, 2)))).text);
  t.is(connection.of("input_audio_buffer.committed")[1]?.["previous_item_id"], item);
  connection.socket.close();
});

test("PCM at any rate is resampled, in pieces that may cut samples in two", async (t) => {
  for (const rate of [8000, 24000, 44100]) {
    const connection = new Connection(server);
    await connection.configure({ format: pcm(rate), turn_detection: null });
    const bytes = pcm16(resample(tones(1.5, 3), 16000, rate));
    connection.append(bytes, 999);
    connection.send({ type: "input_audio_buffer.commit" });
    const { text } = recognizer.transcribe(resample(decoded(bytes), rate, 16000));
    t.is((await connection.next(completed))["transcript"], text, `${rate} Hz`);
    connection.socket.close();
  }
});

test("G.711 is decoded as the standard says", (t) => {
  // The decision values of ITU-T G.711, tables 2a and 1a, on the scales of 14 and 13 bits.
  const value = (type: "audio/pcmu" | "audio/pcma", code: number): number => {
    const samples = new AudioDecoder({ type });
    return [...samples.push(new Uint8Array(400).fill(code))].at(-1) as number;
  };
  const near = (found: number, wanted: number) =>
    t.true(Math.abs(found - wanted) < 0.01 * Math.abs(wanted) + 1e-4, `${found}, not ${wanted}`);
  for (const [code, wanted] of [
    [0x80, 8031],
    [0x00, -8031],
    [0x8f, 4191],
    [0xff, 0],
    [0x7f, 0],
    [0xfe, 2],
    [0xf0, 30],
    [0xef, 33],
    [0x9f, 2079],
  ] as const) {
    near(value("audio/pcmu", code), wanted / 8192);
  }
  for (const [code, wanted] of [
    [0xaa, 4032],
    [0x2a, -4032],
    [0xd5, 1],
    [0x55, -1],
    [0xba, 2016],
    [0xc5, 33],
    [0xd4, 3],
  ] as const) {
    near(value("audio/pcma", code), wanted / 4096);
  }
});

test("telephone audio is transcribed", async (t) => {
  const codes = (samples: Float32Array): Uint8Array => {
    const table = Array.from({ length: 256 }, (_, code) => {
      const value = ~code & 0xff;
      const magnitude = ((((value & 15) << 1) + 33) << ((value >> 4) & 7)) - 33;
      return (value & 0x80 ? -magnitude : magnitude) / 8192;
    });
    return Uint8Array.from(samples, (sample) =>
      table.reduce((best, entry, code) => (Math.abs(entry - sample) < Math.abs((table[best] as number) - sample) ? code : best), 0),
    );
  };
  const samples = resample(tones(1, 4), 16000, 8000);
  const bytes = codes(samples);
  const decoder = new AudioDecoder({ type: "audio/pcmu" });
  const heard = new Float32Array([...decoder.push(bytes), ...decoder.finish()]);
  const connection = new Connection(server);
  await connection.configure({ format: { type: "audio/pcmu" }, turn_detection: null });
  connection.append(bytes);
  connection.send({ type: "input_audio_buffer.commit" });
  t.is((await connection.next(completed))["transcript"], recognizer.transcribe(heard).text);
  connection.socket.close();
});

test("a cleared buffer is forgotten", async (t) => {
  const connection = new Connection(server);
  await connection.configure({ format: pcm(16000), turn_detection: null });
  connection.append(pcm16(tones(2, 1)));
  connection.send({ type: "input_audio_buffer.clear" });
  await connection.next("input_audio_buffer.cleared");
  connection.send({ type: "input_audio_buffer.commit", event_id: "mine" });
  const { error } = await connection.next("error");
  t.like(error, { code: "input_audio_buffer_commit_empty", event_id: "mine", type: "invalid_request_error" });
  connection.append(pcm16(tones(1, 2)));
  connection.send({ type: "input_audio_buffer.commit" });
  t.is((await connection.next(completed))["transcript"], recognizer.transcribe(decoded(pcm16(tones(1, 2)))).text);
  connection.socket.close();
});

test("keywords bias a session, and nonsense is a failed item", async (t) => {
  const connection = new Connection(server);
  await connection.configure({ format: pcm(16000), turn_detection: null, transcription: { keywords: ["the dog", "hat"] } });
  const bytes = pcm16(tones(1.5, 1));
  connection.append(bytes);
  connection.send({ type: "input_audio_buffer.commit" });
  const biased = (await connection.next(completed))["transcript"];
  t.not(biased, recognizer.transcribe(decoded(bytes)).text);
  await connection.configure({ transcription: { keywords: ["42"] } });
  connection.append(bytes);
  connection.send({ type: "input_audio_buffer.commit" });
  const { error } = await connection.next("conversation.item.input_audio_transcription.failed");
  t.like(error, { code: "invalid_value" });
  t.regex((error as { message: string }).message, /no letters/);
  connection.socket.close();
});

test("events that make no sense are answered with errors, and the session goes on", async (t) => {
  const connection = new Connection(server);
  await connection.next("session.created");
  const update = (input: object) => ({ type: "session.update", session: { audio: { input } } });
  const cases: [unknown, string, string | null][] = [
    ["{", "invalid_json", null],
    [[], "unknown_event", "type"],
    [{ type: "response.create" }, "unknown_event", "type"],
    [{ type: "input_audio_buffer.append" }, "invalid_value", "audio"],
    [{ type: "input_audio_buffer.append", audio: "no base64!" }, "invalid_value", "audio"],
    [{ type: "session.update", session: { type: "realtime" } }, "invalid_value", "session.type"],
    [update({ format: { type: "audio/pcm", rate: 1000 } }), "invalid_value", "session.audio.input.format.rate"],
    [update({ turn_detection: { type: "semantic_vad" } }), "invalid_value", "session.audio.input.turn_detection.type"],
    [update({ turn_detection: { type: "server_vad", threshold: 2 } }), "invalid_value", "session.audio.input.turn_detection.threshold"],
    [update({ transcription: { model: "gpt-9" } }), "model_not_found", "model"],
    [update({ transcription: { language: "de" } }), "invalid_value", "language"],
    [{ type: "input_audio_buffer.commit" }, "input_audio_buffer_commit_empty", null],
  ];
  for (const [index, [message, code, param]] of cases.entries()) {
    connection.socket.send(typeof message === "string" ? message : JSON.stringify(message));
    const { error } = await connection.next("error", index + 1);
    t.like(error, { code, param, event_id: null }, JSON.stringify([message, error]));
  }
  await connection.configure({ format: pcm(16000), turn_detection: null });
  connection.append(pcm16(tones(1, 2)));
  connection.send({ type: "input_audio_buffer.commit" });
  t.truthy(await connection.next(completed));
  connection.socket.close();
});

test("a message that is too large ends its connection, and no other", async (t) => {
  const [greedy, modest] = [new Connection(server), new Connection(server)];
  await Promise.all([greedy.next("session.created"), modest.next("session.created")]);
  greedy.socket.send(Buffer.alloc(5 * 2 ** 20));
  await until(() => greedy.closed !== undefined);
  await modest.configure({ turn_detection: null });
  t.is(modest.closed, undefined);
  modest.socket.close();
});

test("streams are limited, need a key, and are counted", async (t) => {
  await using locked = await startServer(folder.model, { maximumStreams: 1, apiKeys: [{ name: "a", key: "a-key-of-some-length" }] });
  const refused = async (options: ConstructorParameters<typeof Connection>[1], path = "/v1/realtime") => {
    const socket = new WebSocket(locked.url.replace("http", "ws") + path, options?.protocols ?? [], { headers: options?.headers ?? {} });
    const status = await new Promise((resolve) => {
      socket.on("unexpected-response", (_, response) => (response.resume(), resolve(response.statusCode)));
      socket.on("open", () => resolve(101));
      socket.on("error", () => undefined);
    });
    socket.terminate();
    return status;
  };
  const headers = { authorization: "Bearer a-key-of-some-length" };
  t.is(await refused({}), 401);
  t.is(await refused({ headers: { authorization: "Bearer another-key-of-length" } }), 401);
  t.is(await refused({ headers }, "/v2/realtime"), 404);
  const browser = new Connection(locked, { protocols: ["realtime", "openai-insecure-api-key.a-key-of-some-length"] });
  await browser.next("session.created");
  t.is(browser.socket.protocol, "realtime");
  t.is(await metric(locked, "streams_active"), 1);
  t.is(await refused({ headers }), 429);
  browser.socket.close();
  await until(async () => (await metric(locked, "streams_active")) === 0);
  const next = new Connection(locked, { headers });
  t.truthy(await next.next("session.created"));
  next.socket.terminate();
});

test("speech goes on when the engine is killed, and a drained server answers before it closes", async (t) => {
  const own = await startServer(folder.model);
  const connection = new Connection(own);
  await connection.configure({ format: pcm(16000), turn_detection: null });
  const bytes = pcm16(tones(9, 5));
  connection.append(bytes.subarray(0, 160_000));
  await connection.next(delta);
  process.kill(own.enginePid as number, "SIGKILL");
  connection.append(bytes.subarray(160_000));
  // What was sent must have arrived before the server is told to end.
  connection.send({ type: "session.update", session: {} });
  await connection.next("session.updated", 2);
  const drained = own.drain();
  t.is((await connection.next(completed))["transcript"], recognizer.transcribe(decoded(bytes)).text);
  await drained;
  await until(() => connection.closed !== undefined);
  t.is(connection.closed, 1001);
});

test("the official client speaks to it, over TLS", async (t) => {
  const fixture = (name: string): string => join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "tls", name);
  await using secure = await startServer(folder.model, { tls: { certificate: fixture("localhost.crt"), key: fixture("localhost.key") } });
  t.regex(secure.url, /^https:/);
  const ca = readFileSync(fixture("localhost.crt"));
  const client = new OpenAI({ baseURL: `${secure.url}/v1`, apiKey: "unused" });
  const realtime = new OpenAIRealtimeWS({ intent: "transcription", options: { ca } }, client);
  const bytes = pcm16(resample(tones(2, 1), 16000, 24000));
  const transcript = await new Promise<string>((resolve, reject) => {
    realtime.on("error", reject);
    realtime.on("session.created", () =>
      realtime.send({
        type: "session.update",
        session: { type: "transcription", audio: { input: { format: { type: "audio/pcm", rate: 24000 }, turn_detection: null as never } } },
      }),
    );
    realtime.on("session.updated", () => {
      realtime.send({ type: "input_audio_buffer.append", audio: bytes.toString("base64") });
      realtime.send({ type: "input_audio_buffer.commit" });
    });
    realtime.on(completed, (event) => resolve(event.transcript));
  });
  realtime.close();
  t.is(transcript, recognizer.transcribe(resample(decoded(bytes), 24000, 16000)).text);
});
