import { readdirSync } from "node:fs";
import test from "ava";
import OpenAI, { toFile } from "openai";
import { formatTranscript, loadModel, Recognizer } from "../lib/index.js";
import type { Server } from "../lib/serve/server.js";
import { asDecoded, beginUpload, form, metric, post, readAll, servingFolder, startServer, until, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

const folder = servingFolder("serve-http");
const recognizer = new Recognizer(loadModel(folder.model));
const samples = tones(1.5, 1);
const expected = recognizer.transcribe(asDecoded(samples));
let server: Server;
let client: OpenAI;
test.before(async () => {
  server = await startServer(folder.model, { spoolFolder: folder.path });
  client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: "unused", maxRetries: 0 });
});
test.after.always(async () => {
  await server?.close();
  folder.clean();
});

const upload = (audio = samples) => toFile(wav(audio), "speech.wav");
const usage = { type: "duration", seconds: 2 };

interface ErrorBody {
  readonly error: { readonly message: string; readonly type: string; readonly param: string | null; readonly code: string | null };
}

test("the official client gets all five formats", async (t) => {
  const create = async (response_format: "json" | "text" | "srt" | "vtt" | "verbose_json") =>
    (await client.audio.transcriptions.create({ file: await upload(), model: "tiny", response_format })) as unknown;
  t.true(expected.text.length > 0);
  t.deepEqual(await create("json"), { text: expected.text, usage });
  for (const format of ["text", "srt", "vtt"] as const) t.is(await create(format), formatTranscript(expected, format));
  const verbose = (await create("verbose_json")) as { words?: unknown; segments: unknown[] };
  const whole = JSON.parse(formatTranscript(expected, "verbose_json")) as { words: unknown[]; segments: unknown[] };
  const { words, ...withoutWords } = whole;
  t.deepEqual(verbose as unknown, { task: "transcribe", ...withoutWords });
  const granular = async (timestamp_granularities: ("word" | "segment")[]) =>
    client.audio.transcriptions.create({
      file: await upload(),
      model: "whisper-1",
      response_format: "verbose_json",
      timestamp_granularities,
    });
  t.deepEqual((await granular(["word"])).words as unknown, words);
  t.false("segments" in (await granular(["word"])));
  const both = await granular(["word", "segment"]);
  t.deepEqual([both.words as unknown, both.segments as unknown], [words, whole.segments]);
});

test("keywords are hotwords, and log-probabilities come with the tokens", async (t) => {
  const keywords = ["the dog", "hat"];
  const result = await client.audio.transcriptions.create({
    file: await upload(),
    model: "tiny",
    keywords,
    include: ["logprobs"],
    language: "en",
    temperature: 0,
  });
  const speech = recognizer.decoding({ hotwords: keywords });
  const features = recognizer.featureChunks();
  for (const chunk of features.push(asDecoded(samples))) recognizer.forward([chunk]).forEach((heard) => speech.push(heard));
  recognizer.forward([features.finish()]).forEach((heard) => speech.push(heard));
  const biased = speech.finish(samples.length);
  t.is(result.text, biased.text);
  t.not(result.text, expected.text);
  t.is(
    result.logprobs
      ?.map(({ token }) => token)
      .join("")
      .trim()
      .replaceAll(/ +/g, " "),
    result.text,
  );
  t.true(result.logprobs?.every(({ logprob = 1 }) => logprob <= 0));
});

test("streamed deltas add up to the text", async (t) => {
  const long = tones(75, 3);
  const { text } = recognizer.transcribe(asDecoded(long));
  const stream = await client.audio.transcriptions.create({ file: await upload(long), model: "tiny", stream: true });
  const deltas: string[] = [];
  let done: unknown;
  for await (const event of stream) {
    if (event.type === "transcript.text.delta") deltas.push(event.delta);
    else done = event;
  }
  t.true(deltas.length > 2, `${deltas.length} deltas`);
  t.is(deltas.join(""), text);
  t.deepEqual(done, { type: "transcript.text.done", text, usage: { type: "duration", seconds: 75 } });
});

test("results do not depend on what is recognised at the same time", async (t) => {
  const clips = Array.from({ length: 16 }, (_, seed) => tones(0.4 + (seed % 5) * 0.9, seed));
  const expected = clips.map((clip) => recognizer.transcribe(asDecoded(clip)).text);
  const shared = async (): Promise<boolean> => (await metric(server, "batch_size_sum")) > (await metric(server, "batch_size_count"));
  // Whether requests meet in a pass is up to when they arrive: as often as it takes.
  for (let round = 0; round === 0 || (round < 50 && !(await shared())); round++) {
    const texts = await Promise.all(
      clips.map(async (clip) => ((await (await post(server, form(wav(clip)))).json()) as { text: string }).text),
    );
    t.deepEqual(texts, expected);
  }
  t.true(await shared(), "some passes were shared");
});

test("models are listed and found", async (t) => {
  const ids: string[] = [];
  for await (const model of client.models.list()) ids.push(model.id);
  t.deepEqual(ids, ["tiny", "whisper-1"]);
  t.like(await client.models.retrieve("tiny"), { id: "tiny", object: "model", owned_by: "usm-lite" });
  await t.throwsAsync(client.models.retrieve("large"), { instanceOf: OpenAI.NotFoundError, message: /"large".*tiny/ });
});

test("what is wrong with a request is said in OpenAI's shape", async (t) => {
  const audio = wav(samples);
  const model = ["model", "tiny"] as const;
  const text = Buffer.from("these are words, not sound\n".repeat(40));
  const cases: [FormData, number, string, string | null, RegExp][] = [
    [form(undefined), 400, "missing_required_parameter", "file", /no file/],
    [form(audio, []), 400, "missing_required_parameter", "model", /model/],
    [form(audio, [["model", "gpt-9"]]), 404, "model_not_found", "model", /"gpt-9".*tiny/],
    [form(audio, [model, ["response_format", "docx"]]), 400, "invalid_value", "response_format", /verbose_json/],
    [form(audio, [model, ["timestamp_granularities[]", "word"]]), 400, "invalid_value", "timestamp_granularities", /verbose_json/],
    [form(audio, [model, ["timestamp_granularities[]", "day"]]), 400, "invalid_value", "timestamp_granularities", /word/],
    [form(audio, [model, ["stream", "true"], ["response_format", "srt"]]), 400, "invalid_value", "stream", /json or text/],
    [form(audio, [model, ["stream", "maybe"]]), 400, "invalid_value", "stream", /true/],
    [form(audio, [model, ["language", "de"]]), 400, "invalid_value", "language", /recognises en/],
    [form(audio, [model, ["temperature", "7"]]), 400, "invalid_value", "temperature", /1/],
    [form(audio, [model, ["model", "tiny"]]), 400, "invalid_value", "model", /2 times/],
    [form(audio, [model, ["keywords[]", "123"]]), 400, "invalid_value", "keywords", /no letters/],
    [form(audio, [model, ["keywords[]", "x".repeat(101)]]), 400, "invalid_value", "keywords", /100/],
    [form(audio, [model, ["include[]", "logprobs"], ["response_format", "text"]]), 400, "invalid_value", "include", /json/],
    [form(audio, [model, ["prompt", "x".repeat(20_000)]]), 413, "field_too_large", null, /prompt/],
    [form(new Uint8Array(0)), 400, "invalid_audio", "file", /speech\.wav/],
    [form(audio.subarray(0, 500)), 400, "invalid_audio", "file", /speech\.wav.*ends too early/],
    [form(text), 415, "unsupported_audio_format", "file", /speech\.wav/],
  ];
  for (const [body, status, code, param, message] of cases) {
    const response = await post(server, body);
    const { error } = (await response.json()) as ErrorBody;
    t.deepEqual([response.status, error.code, error.param], [status, code, param], error.message);
    t.regex(error.message, message);
    t.notRegex(error.message, /upload-|\/tmp/, "where files lie is nobody's business");
    t.is(error.type, "invalid_request_error");
  }
  await t.throwsAsync(client.audio.transcriptions.create({ file: await toFile(text, "a.wav"), model: "tiny", stream: true }), {
    instanceOf: OpenAI.APIError,
    message: /^415/,
  });
});

test("other ways to ask wrongly", async (t) => {
  const url = `${server.url}/v1/audio/transcriptions`;
  const error = async (response: Promise<Response>) => {
    const { status } = await response;
    return [status, ((await (await response).json()) as ErrorBody).error.code];
  };
  t.deepEqual(await error(fetch(url, { method: "POST", body: "{}", headers: { "content-type": "application/json" } })), [
    415,
    "unsupported_content_type",
  ]);
  t.deepEqual(await error(fetch(url, { method: "POST", body: "x", headers: { "content-type": "multipart/form-data" } })), [
    400,
    "invalid_multipart",
  ]);
  t.deepEqual(
    await error(fetch(url, { method: "POST", body: "--b\r\nnothing", headers: { "content-type": "multipart/form-data; boundary=b" } })),
    [400, "invalid_multipart"],
  );
  for (const disposition of ["form-data", 'form-data; filename="speech.wav"']) {
    const body = `--b\r\nContent-Disposition: ${disposition}\r\n\r\ntiny\r\n--b--\r\n`; // a part without a name
    const nameless = fetch(url, { method: "POST", body, headers: { "content-type": "multipart/form-data; boundary=b" } });
    t.deepEqual(await error(nameless), [400, "invalid_multipart"], disposition);
  }
  t.deepEqual(await error(fetch(url)), [404, "unknown_url"]);
  t.deepEqual(await error(fetch(`${server.url}/v2/everything`, { method: "POST", body: "x" })), [404, "unknown_url"]);
  const many = Array.from({ length: 20 }, () => ["prompt[]", "x".repeat(16_000)] as const);
  t.deepEqual(await error(post(server, form(wav(samples), [["model", "tiny"], ...many]))), [413, "too_many_fields"]);
  const twice = form(wav(samples));
  twice.append("file", new Blob([wav(samples) as Uint8Array<ArrayBuffer>]), "again.wav");
  t.deepEqual(await error(post(server, twice)), [413, "too_many_fields"]);
});

test("limits of size, length and time", async (t) => {
  await using strict = await startServer(folder.model, { maximumUploadBytes: 40_000, maximumAudioSeconds: 1 });
  const error = async (response: Response) => [response.status, ((await response.json()) as ErrorBody).error.code];
  t.deepEqual(await error(await post(strict, form(wav(tones(1.1, 1))))), [413, "audio_too_long"]);
  t.deepEqual(await error(await post(strict, form(new Uint8Array(60_000)))), [413, "file_too_large"]);
  t.deepEqual(await error(await post(strict, form(new Uint8Array(3_000_000)))), [413, "file_too_large"], "refused by its header alone");
  t.is((await post(strict, form(wav(tones(1, 1))))).status, 200);
});

test("an upload that does not come to an end is answered and ended", async (t) => {
  await using impatient = await startServer(folder.model, { uploadTimeoutSeconds: 0.3 });
  const answer = await readAll(await beginUpload(impatient));
  t.regex(answer, /^HTTP\/1\.1 408 /);
  t.regex(answer, /"code":"upload_timeout"/);
  await until(() => impatient.dispatcher.receiving === 0);
  t.deepEqual(readdirSync(impatient.uploads.folder.path), []);
});

test("a client that goes away leaves nothing behind", async (t) => {
  await using alone = await startServer(folder.model);
  const uploading = await beginUpload(alone);
  await until(() => alone.dispatcher.receiving === 1);
  uploading.destroy();
  await until(() => alone.dispatcher.receiving === 0);
  const controller = new AbortController();
  const waiting = t.throwsAsync(post(alone, form(wav(tones(200, 1))), { signal: controller.signal }), { any: true });
  await until(() => alone.dispatcher.active === 1);
  controller.abort();
  await waiting;
  await until(() => alone.dispatcher.active === 0);
  await until(() => readdirSync(alone.uploads.folder.path).length === 0);
  t.is((await post(alone, form(wav(samples)))).status, 200);
});

test("a full queue refuses with 429 and says when to come back", async (t) => {
  await using small = await startServer(folder.model, { maximumQueue: 1, maximumBatch: 1 });
  const sockets = [await beginUpload(small), await beginUpload(small)]; // one that would run, one that would wait
  await until(() => small.dispatcher.receiving === 2);
  const response = await post(small, form(wav(samples)));
  t.is(response.status, 429);
  t.true(Number(response.headers.get("retry-after")) >= 1);
  t.like(await response.json(), { error: { code: "queue_full", type: "rate_limit_error" } });
  for (const socket of sockets) socket.destroy();
  await until(() => small.dispatcher.receiving === 0);
  t.is((await post(small, form(wav(samples)))).status, 200);
  t.is(await metric(small, "rejected_total"), 1);
});

test("health and metrics tell what goes on", async (t) => {
  t.like(await (await fetch(`${server.url}/health/live`)).json(), { status: "live" });
  t.like(await (await fetch(`${server.url}/health/ready`)).json(), { status: "ready" });
  await post(server, form(wav(samples)));
  t.true((await metric(server, "audio_seconds_total")) >= 1.5);
  t.true((await metric(server, "requests_total")) >= 1);
  t.true((await metric(server, "engine_resident_bytes")) > 1e6);
  t.true((await metric(server, "tensor_bytes")) > 1000);
  t.is(await metric(server, "workers_ready"), 1);
  await until(async () => (await metric(server, "queue_depth")) === 0);
});
