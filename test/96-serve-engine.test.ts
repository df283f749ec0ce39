import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { existsSync, renameSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { compressModel, loadModel, memoryStatistics, Recognizer, type PackedMatrix } from "../lib/index.js";
import { FairQueue } from "../lib/serve/engine/fair_queue.js";
import type { FeatureChunk } from "../lib/transcribe/feature_chunks.js";
import type { Chunk } from "../lib/decode/overlap.js";
import { ForwardBatcher, type ForwardPass } from "../lib/transcribe/forward_batcher.js";
import { roundToNearest } from "./recipes.js";
import { asDecoded, form, metric, post, servingFolder, startServer, until, wav } from "./serving.js";
import { tones, writeTinyModel } from "./tiny_model.js";

const folder = servingFolder("serve-engine");
test.after.always(folder.clean);
const recognizer = new Recognizer(loadModel(folder.model));
const textOf = async (response: Promise<Response>): Promise<string> => ((await (await response).json()) as { text: string }).text;

test("the queue is fair between clients by the work they ask for", (t) => {
  const queue = new FairQueue<string>();
  const takeAll = (): string => {
    let order = "";
    for (let item; (item = queue.take()) !== undefined;) order += item;
    return order;
  };
  for (let i = 0; i < 6; i++) queue.push("a", "greedy", 10);
  queue.push("b", "modest", 10);
  queue.push("c", "brief", 1);
  t.is(queue.length, 8);
  t.is(takeAll(), "cabaaaaa");
  queue.push("h", "archive", 3600);
  for (let i = 0; i < 3; i++) queue.push("s", "short", 5);
  t.is(takeAll(), "sssh", "an hour waits for seconds");
  queue.push("x", "one", 1);
  queue.push("y", "two", 2);
  t.true(queue.remove("x"));
  t.false(queue.remove("x"));
  t.is(takeAll(), "y");
  t.is(queue.take(), undefined);
  // Who comes late has no claim to the time before.
  queue.push("a", "early", 5);
  queue.push("a", "early", 5);
  queue.take();
  queue.push("b", "late", 5);
  queue.push("b", "late", 5);
  t.is(takeAll(), "bab");
});

const chunk = (frames: number): FeatureChunk => ({ firstFrame: 0, frames, values: new Float32Array(0) });

const timing = { seconds: ({ frames }: FeatureChunk): number => frames / 100, secondsPerPass: 60 };

/** A network that only notes which chunks it hears together, by their lengths. */
function noting(): { passes: number[][]; network: ForwardPass<FeatureChunk, Chunk> } {
  const passes: number[][] = [];
  const outcomes = (chunks: readonly FeatureChunk[]) => {
    passes.push(chunks.map(({ frames }) => frames));
    return chunks.map(({ frames }) => ({ firstFrame: 0, frames, tokens: 1, values: new Float32Array(frames) }));
  };
  return { passes, network: { outcomes, ...timing } };
}

test("chunks share passes, up to a number and a length, the most urgent first", async (t) => {
  const { passes, network } = noting();
  const batcher = new ForwardBatcher(network, { maximumBatch: 3, maximumWaitMs: 0 });
  const hear = (frames: number, deadline: number) => batcher.forward(chunk(frames), { deadline, expected: false });
  const heard = await Promise.all([hear(1, 5), hear(2, 4), hear(3, 3), hear(4, 2), hear(5, 1)]);
  t.deepEqual(passes, [
    [5, 4, 3],
    [2, 1],
  ]);
  t.deepEqual(
    heard.map(({ frames }) => frames),
    [1, 2, 3, 4, 5],
  );
  passes.length = 0;
  await Promise.all([hear(4000, 1), hear(1500, 2), hear(1000, 3), hear(9000, 4)]); // 60 s of 100 frames a second
  t.deepEqual(passes, [[4000, 1500], [1000], [9000]]);
});

test("a pass waits for who has joined, but not for ever", async (t) => {
  const { passes, network } = noting();
  const batcher = new ForwardBatcher(network, { maximumBatch: 8, maximumWaitMs: 60_000 });
  batcher.join();
  batcher.join();
  const first = batcher.forward(chunk(1), { deadline: 0 });
  await new Promise((resolve) => setTimeout(resolve, 20));
  t.deepEqual(passes, []);
  const second = batcher.forward(chunk(2), { deadline: 1 });
  await Promise.all([first, second]);
  t.deepEqual(passes, [[1, 2]]);
  const third = batcher.forward(chunk(3), { deadline: 0 });
  batcher.leave();
  await third;
  t.deepEqual(passes, [[1, 2], [3]]);
  const impatient = new ForwardBatcher(network, { maximumWaitMs: 1 });
  impatient.join();
  impatient.join();
  await impatient.forward(chunk(4), { deadline: 0 });
  t.deepEqual(passes.at(-1), [4]);
});

test("a chunk whose recording was given up is not heard, and a failing pass fails its chunks alone", async (t) => {
  const { passes, network } = noting();
  const controller = new AbortController();
  const batcher = new ForwardBatcher(network, { maximumWaitMs: 0 });
  const given = batcher.forward(chunk(1), { deadline: 0, signal: controller.signal, expected: false });
  const kept = batcher.forward(chunk(2), { deadline: 1, expected: false });
  controller.abort();
  await t.throwsAsync(given, { code: "ABORTED" });
  await kept;
  t.deepEqual(passes, [[2]]);
  let fail = true;
  const faulty = new ForwardBatcher<FeatureChunk, Chunk>({
    ...timing,
    outcomes: (chunks) =>
      fail
        ? (() => {
            throw new RangeError("no memory");
          })()
        : network.outcomes(chunks),
  });
  await t.throwsAsync(faulty.forward(chunk(1), { deadline: 0, expected: false }), { message: "no memory" });
  fail = false;
  await faulty.forward(chunk(3), { deadline: 0, expected: false });
});

test("where passes go on alone, a full one is asked for before the one before it is waited for", async (t) => {
  const { network } = noting();
  const events = async (goesOnAlone: boolean, lengths: readonly number[]): Promise<string[]> => {
    const seen: string[] = [];
    const note = (what: string, chunks: readonly FeatureChunk[]) => seen.push(`${what} ${chunks.map(({ frames }) => frames).join("+")}`);
    const outcomes = (chunks: readonly FeatureChunk[]) => (note("wait", chunks), network.outcomes(chunks));
    const begin = (chunks: readonly FeatureChunk[]) => (note("ask", chunks), () => outcomes(chunks));
    const watched = { ...network, outcomes, begin: goesOnAlone ? begin : undefined };
    const batcher = new ForwardBatcher(watched, { maximumBatch: 2, maximumWaitMs: 0 });
    await Promise.all(lengths.map((frames, index) => batcher.forward(chunk(frames), { deadline: index, expected: false })));
    return seen;
  };
  t.deepEqual(await events(false, [1, 2, 3, 4]), ["wait 1+2", "wait 3+4"]);
  t.deepEqual(await events(true, [1, 2, 3, 4]), ["ask 1+2", "ask 3+4", "wait 1+2", "wait 3+4"]);
  // Others may come to share a pass that is not full.
  t.deepEqual(await events(true, [1, 2, 3]), ["ask 1+2", "wait 1+2", "ask 3", "wait 3"]);
  t.deepEqual(await events(true, [1, 2, 6000]), ["ask 1+2", "ask 6000", "wait 1+2", "wait 6000"]);
});

test.serial("workers share one copy of packed weights", async (t) => {
  const packed = join(folder.path, "packed");
  await compressModel({ model: folder.model, recipe: roundToNearest("int4+2:4"), manifest: undefined, out: packed });
  const first = loadModel(packed);
  const before = memoryStatistics().bytesInUse;
  const second = loadModel(packed, { sharedMatrices: first.shareMatrices() });
  const shared = memoryStatistics().bytesInUse - before;
  const alone = (loadModel(packed), memoryStatistics().bytesInUse - before - shared);
  const packedBytes = (first.network as LasrForCtc).encoder.linears.reduce(
    (sum, { weight }) => sum + (weight as PackedMatrix).residentBytes,
    0,
  );
  t.true(alone - shared >= 0.7 * packedBytes, `${shared} shared, ${alone} alone, ${packedBytes} packed`);
  const samples = tones(2, 1);
  t.deepEqual(new Recognizer(second).transcribe(samples), new Recognizer(first).transcribe(samples));
  await using server = await startServer(packed, { workers: 2 });
  const texts = await Promise.all([1, 2, 3, 4].map(() => textOf(post(server, form(wav(samples))))));
  t.deepEqual(new Set(texts), new Set([new Recognizer(first).transcribe(asDecoded(samples)).text]));
});

test.serial("killing the engine loses no recording", async (t) => {
  await using server = await startServer(folder.model, { workers: 2 });
  const clips = Array.from({ length: 6 }, (_, seed) => tones(20 + seed, seed));
  const answers = clips.map((clip) => textOf(post(server, form(wav(clip)))));
  const pid = server.enginePid as number;
  await until(() => server.dispatcher.active > 0);
  process.kill(pid, "SIGKILL");
  t.deepEqual(
    await Promise.all(answers),
    clips.map((clip) => recognizer.transcribe(asDecoded(clip)).text),
  );
  t.not(server.enginePid, pid);
  t.is(await metric(server, "engine_restarts_total"), 1);
  t.is(server.dispatcher.active, 0);
});

test.serial("while no worker is ready, the service says so and keeps what it was sent", async (t) => {
  await using server = await startServer(folder.model);
  const samples = tones(1, 1);
  const away = join(folder.path, "away");
  const ready = async () => (await fetch(`${server.url}/health/ready`)).status;
  t.is(await ready(), 200);
  renameSync(folder.model, away); // so that the engine cannot come back
  let answer: Promise<string>;
  try {
    process.kill(server.enginePid as number, "SIGKILL");
    await until(async () => (await ready()) === 503);
    t.is((await fetch(`${server.url}/health/live`)).status, 200);
    answer = textOf(post(server, form(wav(samples))));
    await until(() => server.dispatcher.queued === 1);
  } finally {
    renameSync(away, folder.model);
  }
  t.is(await answer, recognizer.transcribe(asDecoded(samples)).text);
  t.is(await ready(), 200);
});

test.serial("the model is reloaded while requests go on", async (t) => {
  const served = join(folder.path, "served");
  const one = writeTinyModel(join(folder.path, "one"), { seed: 1 });
  const two = writeTinyModel(join(folder.path, "two"), { seed: 2 });
  renameSync(one, served);
  await using server = await startServer(served);
  const samples = tones(1.2, 5);
  const long = tones(100, 6);
  const ask = () => textOf(post(server, form(wav(samples))));
  const before = recognizer.transcribe(asDecoded(samples)).text;
  const after = new Recognizer(loadModel(two)).transcribe(asDecoded(samples)).text;
  t.not(before, after);
  t.is(await ask(), before);
  const underWay = textOf(post(server, form(wav(long))));
  await until(() => server.dispatcher.active === 1);
  renameSync(served, one);
  renameSync(two, served);
  const pid = server.enginePid;
  const answers: Promise<string>[] = [];
  const reloaded = server.reload();
  for (let i = 0; i < 10; i++) answers.push(ask());
  await reloaded;
  t.is(await ask(), after);
  t.not(server.enginePid, pid);
  for (const answer of await Promise.all(answers)) t.true(answer === before || answer === after);
  t.is(await underWay, recognizer.transcribe(asDecoded(long)).text, "what began with the old model ends with it");
  // A model that cannot be loaded changes nothing.
  writeFileSync(join(served, "config.json"), "{}");
  await t.throwsAsync(server.reload(), { code: "UNSUPPORTED_MODEL" });
  t.is(await ask(), after);
});

test.serial("draining finishes what was accepted, and leaves nothing", async (t) => {
  const server = await startServer(folder.model);
  const clips = Array.from({ length: 3 }, (_, seed) => tones(60, seed));
  const answers = clips.map((clip) => textOf(post(server, form(wav(clip)))));
  await until(() => server.dispatcher.active === clips.length);
  const { url, uploads } = server;
  const drained = server.drain();
  t.deepEqual(
    await Promise.all(answers),
    clips.map((clip) => recognizer.transcribe(asDecoded(clip)).text),
  );
  await drained;
  await t.throwsAsync(fetch(`${url}/health/live`), { any: true });
  t.false(existsSync(uploads.folder.path));
  t.is(server.enginePid, undefined);
  await server.close();
});

test.serial("a recording that takes too long is given up", async (t) => {
  await using server = await startServer(folder.model, { recognitionTimeoutSeconds: 0.05 });
  const response = await post(server, form(wav(tones(600, 1))));
  t.is(response.status, 504);
  t.like(await response.json(), { error: { code: "recognition_timeout" } });
  await until(() => server.dispatcher.active === 0);
});
