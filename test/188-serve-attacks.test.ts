/** Clients, operators and file systems that treat a server badly. */
import { randomUUID } from "node:crypto";
import { EventEmitter, once } from "node:events";
import { existsSync, mkdirSync, readdirSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { basename, join } from "node:path";
import test from "ava";
import { WebSocket } from "ws";
import { UsmLiteError } from "../lib/operations.js";
import { errorResponse } from "../lib/serve/http/openai_error.js";
import { RecentSamples } from "../lib/serve/realtime/recent_samples.js";
import { maximumTurnSeconds, RealtimeSession } from "../lib/serve/realtime/realtime_session.js";
import { Server } from "../lib/serve/server.js";
import { ServiceError } from "../lib/serve/service_error.js";
import { SpoolFolder } from "../lib/serve/spool_folder.js";
import { randomValues } from "./gradient.js";
import { beginUpload, form, metric, post, readAll, servingFolder, startServer, until, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-attacks");
let server: Server;
test.before(async () => {
  server = await startServer(folder.model);
});
test.after.always(async () => {
  await server?.close();
  folder.clean();
});

/** The answer to a request that is sent as it is. */
async function answerTo(to: Server, text: string): Promise<string> {
  const socket = connect(Number(new URL(to.url).port), "127.0.0.1");
  const answer = readAll(socket);
  socket.write(text);
  return answer;
}

interface Event {
  readonly type: string;
  readonly item_id?: string;
  readonly error?: { readonly code: string; readonly message: string };
}

/** A connection to `/v1/realtime` with what came on it. */
async function listen(): Promise<{
  socket: WebSocket;
  events: Event[];
  send(event: object): void;
  next(type: string, count?: number): Promise<Event>;
}> {
  const socket = new WebSocket(`${server.url.replace("http", "ws")}/v1/realtime`);
  const events: Event[] = [];
  socket.on("message", (data: Buffer) => events.push(JSON.parse(data.toString("utf8")) as Event));
  await once(socket, "open");
  const of = (type: string): Event[] => events.filter((event) => event.type === type);
  return {
    socket,
    events,
    send: (event) => socket.send(JSON.stringify(event)),
    next: async (type, count = 1) => {
      await until(() => of(type).length >= count);
      return of(type)[count - 1] as Event;
    },
  };
}

const update = (input: object) => ({ type: "session.update", session: { audio: { input } } });
const pcm = (samples: Float32Array): Buffer => Buffer.from(Int16Array.from(samples, (value) => value * 32767).buffer);

test("a key is needed however the path is spelled", async (t) => {
  await using guarded = await startServer(folder.model, { apiKeys: [{ name: "a", key: "0123456789abcdef" }] });
  for (const path of ["/v1/models", "/%761/models", "/%76%31/models/tiny", "http://x/v1/models", "/v1//models"]) {
    t.regex(await answerTo(guarded, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`), /^HTTP\/1\.1 401 /, path);
  }
  const upload = "POST /%761/audio/transcriptions HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
  t.regex(await answerTo(guarded, upload), /^HTTP\/1\.1 401 /);
});

test("a file that is too large is refused while it comes, and counted as that", async (t) => {
  await using small = await startServer(folder.model, { maximumUploadBytes: 10_000 });
  const part = '--b\r\nContent-Disposition: form-data; name="file"; filename="a.wav"\r\n\r\n'.padEnd(40_000, "x");
  const head =
    "POST /v1/audio/transcriptions HTTP/1.1\r\nHost: x\r\nContent-Type: multipart/form-data; boundary=b\r\nTransfer-Encoding: chunked\r\n\r\n";
  const socket = connect(Number(new URL(small.url).port), "127.0.0.1");
  let answer = "";
  socket.setEncoding("utf8").on("data", (text: string) => (answer += text));
  socket.write(`${head}${part.length.toString(16)}\r\n${part}\r\n`); // and so on
  await until(() => answer.endsWith("}}"));
  t.regex(answer, /^HTTP\/1\.1 413 [^]*"code":"file_too_large"/);
  socket.destroy();
  await until(async () => /transcriptions",status="413"\} 1/.test(await (await fetch(`${small.url}/metrics`)).text()));
  const boundary = "b".repeat(300);
  const response = await fetch(`${small.url}/v1/audio/transcriptions`, {
    method: "POST",
    body: `--${boundary}--`,
    headers: { "content-type": `multipart/form-data; boundary=${boundary}` },
  });
  t.deepEqual([response.status, ((await response.json()) as { error: { code: string } }).error.code], [400, "invalid_multipart"]);
});

test("turns may be detected from the middle of a buffer on, and none is left behind", async (t) => {
  const { socket, events, send, next } = await listen();
  send(update({ format: { type: "audio/pcm", rate: 16000 }, turn_detection: null }));
  await next("session.updated");
  socket.send(pcm(tones(1, 1)));
  send(update({ turn_detection: { type: "server_vad" } }));
  await next("session.updated", 2);
  socket.send(pcm(new Float32Array(8000)));
  socket.send(pcm(tones(1, 1)));
  const { item_id } = await next("input_audio_buffer.speech_started");
  socket.send(pcm(new Float32Array(16000)));
  t.is((await next("input_audio_buffer.committed")).item_id, item_id);
  t.is((await next("conversation.item.input_audio_transcription.completed")).item_id, item_id, "all of it is one turn");
  t.is(new Set(events.flatMap((event) => event.item_id ?? [])).size, 1);
  socket.close();
  await until(() => server.dispatcher.active === 0);
});

test("events and messages of any size get a short answer", async (t) => {
  const { socket, send, next } = await listen();
  send(update({ format: { type: "audio/pcmu" }, turn_detection: null }));
  await next("session.updated");
  const cases: [string | Buffer, string][] = [
    [JSON.stringify({ type: "x".repeat(1e6) }), "unknown_event"],
    [`{"type": ${"[".repeat(1e5)}${"]".repeat(1e5)}}`, "unknown_event"],
    [Buffer.alloc(maximumTurnSeconds * 8000 + 1), "invalid_value"],
  ];
  for (const [index, [message, code]] of cases.entries()) {
    socket.send(message);
    const { error } = await next("error", index + 1);
    t.is(error?.code, code);
    t.true((error?.message.length ?? 0) < 300, error?.message);
  }
  socket.send(Buffer.alloc(8000));
  send({ type: "input_audio_buffer.commit" });
  t.truthy(await next("conversation.item.input_audio_transcription.completed"));
  socket.close();
});

test("a connection without audio ends", async (t) => {
  await using strict = await startServer(folder.model, { streamTimeoutSeconds: 0.1 });
  const socket = new WebSocket(`${strict.url.replace("http", "ws")}/v1/realtime`);
  const [code, reason] = (await once(socket, "close")) as [number, Buffer];
  t.deepEqual([code, reason.toString("utf8")], [1000, "no audio came for 0.1 s"]);
  await until(() => strict.streams === 0);
});

test("a client that takes no answers is not read from until it does", (t) => {
  const sent: (() => void)[] = [];
  const socket = Object.assign(new EventEmitter(), {
    OPEN: 1,
    readyState: 1,
    bufferedAmount: 0,
    isPaused: false,
    send: (_: string, done: () => void) => sent.push(done),
    pause: () => (socket.isPaused = true),
    resume: () => (socket.isPaused = false),
  });
  const session = new RealtimeSession(socket as unknown as WebSocket, server.addresses.clientAt("192.0.2.1"), server);
  socket.emit("message", Buffer.from("nonsense"), false);
  t.false(socket.isPaused);
  socket.bufferedAmount = 2 ** 20 + 1;
  socket.emit("message", Buffer.from("nonsense"), false);
  t.true(socket.isPaused && session.isClogged);
  sent[0]?.();
  t.true(socket.isPaused, "still too much");
  socket.bufferedAmount = 1000;
  sent[1]?.();
  t.false(socket.isPaused || session.isClogged);
  const before = performance.now();
  t.true(session.silentSeconds > 0);
  socket.emit("message", Buffer.alloc(100), true);
  const { silentSeconds } = session;
  t.true(1000 * silentSeconds <= performance.now() - before, "audio came");
});

test("the newest samples are kept, in whatever pieces they come", (t) => {
  const stream = randomValues(3000, 1);
  const recent = new RecentSamples();
  for (let end = 0, step = 0; end < stream.length; step++) {
    const keep = [100, 7, 260][Math.floor(step / 20) % 3] as number;
    const length = [1, 0, 30, 400, 3][step % 5] as number;
    recent.push(stream.subarray(end, end + length), keep);
    end = Math.min(stream.length, end + length);
    const wanted = stream.subarray(Math.max(0, end - 7), end);
    t.deepEqual(recent.last(7), wanted, `step ${step}`);
    t.true(recent.length <= 2 * 400);
  }
  recent.clear();
  t.deepEqual([recent.length, recent.last(5).length], [0, 0]);
});

test("a client that leaves before its answer is counted, and is no failure", async (t) => {
  const uploading = await beginUpload(server);
  await until(() => server.dispatcher.receiving === 1);
  uploading.destroy();
  await until(async () =>
    /usmlite_requests_total\{route="\/v1\/audio\/transcriptions",status="499"\} 1/.test(
      await (await fetch(`${server.url}/metrics`)).text(),
    ),
  );
  t.true((await metric(server, "event_loop_delay_seconds")) >= 0);
});

test("a request keeps the name that it comes with", async (t) => {
  const named = async (name: string): Promise<string | null> =>
    (await fetch(`${server.url}/v1/models`, { headers: { "x-request-id": name } })).headers.get("x-request-id");
  t.is(await named("gateway:7f3a.b-1_c"), "gateway:7f3a.b-1_c");
  for (const name of ["two words", "x".repeat(129), '{"a":1}']) t.regex((await named(name)) ?? "", /^[0-9a-f]{8}-[0-9a-f-]{27}$/);
});

test("while a server ends, who comes is told to go elsewhere", async (t) => {
  const own = await startServer(folder.model);
  const { url } = own;
  const uploading = await beginUpload(own, ["Connection: close"]);
  await until(() => own.dispatcher.receiving === 1);
  const drained = own.drain();
  const refused = await post(own, form(wav(tones(1, 1))));
  t.deepEqual([refused.status, refused.headers.get("connection"), refused.headers.get("retry-after")], [503, "close", "1"]);
  t.is((await fetch(`${url}/health/ready`)).status, 503);
  uploading.destroy();
  await drained;
  await t.throwsAsync(fetch(`${url}/health/live`));
});

test("a server that is not wanted any more while it starts leaves nothing", async (t) => {
  const place = join(folder.path, "unwanted");
  const starting = Server.start(
    { model: folder.model, port: 0, workers: 1, logLevel: "silent", spoolFolder: place },
    AbortSignal.timeout(30),
  );
  await t.throwsAsync(starting, { instanceOf: UsmLiteError, code: "ABORTED" });
  t.deepEqual(readdirSync(place), []);
});

test("the folder of uploads is made again, and those of killed servers go", async (t) => {
  await using own = await startServer(folder.model, { spoolFolder: join(folder.path, "cleaned") });
  rmSync(own.uploads.folder.path, { recursive: true });
  t.is((await post(own, form(wav(tones(1, 1))))).status, 200);
  await until(() => readdirSync(own.uploads.folder.path).length === 0);

  const place = join(folder.path, "places");
  const spoolName = (): string => `usm-lite-uploads-${randomUUID()}`;
  const [killed, link, file, near] = [spoolName(), spoolName(), spoolName(), "usm-lite-uploads-of-mine"] as const;
  for (const name of [killed, near, "other"]) mkdirSync(join(place, name), { recursive: true });
  writeFileSync(join(place, killed, "upload-1"), "what somebody said");
  symlinkSync(join(place, "other"), join(place, link));
  writeFileSync(join(place, file), "");
  await using beside = await SpoolFolder.make(place); // takes the killed one's
  await using made = await SpoolFolder.make(place);
  t.deepEqual(
    readdirSync(place).filter((name) => join(place, name) !== made.path),
    ["other", basename(beside.path), file, link, near].sort(),
  );
  t.true(existsSync(made.path));
  rmSync(made.path, { recursive: true });
  made.ensure();
  await using _next = await SpoolFolder.make(place);
  t.true(existsSync(made.path), "it is held again");
  t.like(errorResponse(new ServiceError("storage_full", "", 10)), { status: 503, retryAfterSeconds: 10 });
});
