import test from "ava";
import { loadModel, Recognizer, Transcriber } from "../lib/index.js";
import { AudioFeed } from "../lib/transcribe/audio_feed.js";
import { PartialRecognition, streaming, type PartialText } from "../lib/transcribe/partial_recognition.js";
import { temporaryFolder, tones, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("live");
test.after.always(folder.clean);
const model = writeTinyModel(folder.path);
const recognizer = new Recognizer(loadModel(model));

function* blocksOf(samples: Float32Array, length: number): Generator<Float32Array> {
  for (let begin = 0; begin < samples.length; begin += length) yield samples.subarray(begin, begin + length);
}

test("partial texts only grow, cover what they say, and come while audio arrives", (t) => {
  for (const decoder of ["greedy", "beam"] as const) {
    for (const block of [160, 1600, 50_000]) {
      const partial = new PartialRecognition(new Recognizer(loadModel(model), { decoder, beamWidth: 4 }));
      const texts: PartialText[] = [];
      let samples = 0;
      for (const part of blocksOf(tones(12, 2), block)) {
        samples += part.length;
        const chunk = partial.push(part);
        if (chunk) recognizer.forward([chunk]).forEach((heard) => texts.push(partial.advance(heard)));
        const last = texts.at(-1)?.settledSeconds ?? 0;
        t.true(
          samples / 16000 - last < streaming.step + streaming.lookAhead + streaming.decisionLag + 0.1,
          `${samples / 16000} s, settled ${last} s`,
        );
      }
      t.true((texts.at(-1)?.text.length ?? 0) > 5);
      texts.reduce((before, { text, settledSeconds, heardSeconds }) => {
        t.true(text.startsWith(before), `${before} then ${text}`);
        t.true(settledSeconds < heardSeconds && heardSeconds <= 12);
        return text;
      }, "");
    }
  }
});

test("a chunk sees no further than its contexts", (t) => {
  const partial = new PartialRecognition(recognizer);
  let frames = 0;
  for (const part of blocksOf(tones(30, 2), 4000)) {
    const chunk = partial.push(part);
    if (!chunk) continue;
    frames = Math.max(frames, chunk.frames);
    recognizer.forward([chunk]).forEach((heard) => partial.advance(heard));
  }
  t.true(frames / 100 < streaming.leftContext + streaming.step + streaming.lookAhead + 0.3);
  t.true(frames / 100 > streaming.leftContext);
});

test("a stream ends with the transcript of the whole, after partial texts", async (t) => {
  await using transcriber = await Transcriber.load({ model });
  for (const seconds of [0, 0.3, 3, 24]) {
    const samples = tones(seconds, 4);
    const texts: string[] = [];
    let transcript: unknown;
    for await (const streamed of transcriber.stream(blocksOf(samples, 3000))) {
      if (streamed.final) transcript = streamed.transcript;
      else texts.push(streamed.text);
    }
    t.deepEqual(transcript, recognizer.transcribe(samples), `${seconds} s`);
    if (seconds >= 3) t.true(texts.length > 0);
  }
});

test("several streams and files at once get what they get alone", async (t) => {
  await using transcriber = await Transcriber.load({ model, maximumBatch: 3 });
  const clips = [1, 2, 3, 4, 5].map((seed) => tones(1 + seed, seed));
  const streamed = async (clip: Float32Array) => {
    let last: unknown;
    for await (const text of transcriber.stream(blocksOf(clip, 2000), { hotwords: ["cat"] })) if (text.final) last = text.text;
    return last;
  };
  const biased = await Promise.all(clips.map((clip) => transcriber.transcribe(clip, { hotwords: ["cat"] })));
  const results = await Promise.all(clips.flatMap((clip) => [streamed(clip), transcriber.transcribe(clip)]));
  clips.forEach((clip, index) => {
    t.is(results[2 * index], biased[index]?.text);
    t.deepEqual(results[2 * index + 1], recognizer.transcribe(clip));
  });
});

test("a stream is given up by its signal, by its reader, or by its source", async (t) => {
  await using transcriber = await Transcriber.load({ model });
  async function* endless(): AsyncGenerator<Float32Array> {
    for (;;) {
      yield tones(0.5, 1);
      await new Promise((resolve) => setImmediate(resolve));
    }
  }
  const controller = new AbortController();
  const aborted = async (): Promise<void> => {
    for await (const { text } of transcriber.stream(endless(), { signal: controller.signal })) if (text !== undefined) controller.abort();
  };
  await t.throwsAsync(aborted(), { code: "ABORTED" });
  for await (const { final } of transcriber.stream(endless())) {
    t.false(final);
    break;
  }
  async function* broken(): AsyncGenerator<Float32Array> {
    yield tones(0.5, 1);
    throw new RangeError("the line is dead");
  }
  const read = async (blocks: AsyncIterable<Float32Array>, hotwords: string[] = []): Promise<void> => {
    for await (const _ of transcriber.stream(blocks, { hotwords }));
  };
  await t.throwsAsync(read(broken()), { instanceOf: RangeError, message: "the line is dead" });
  await t.throwsAsync(read(endless(), ["123"]), { code: "INVALID_ARGUMENT", message: /no letters/ });
  const samples = tones(1, 1);
  t.deepEqual(await transcriber.transcribe(samples), recognizer.transcribe(samples));
});

test("a feed joins what its reader has missed, and ends or fails as told", async (t) => {
  const feed = new AudioFeed();
  const reader = feed[Symbol.asyncIterator]();
  feed.push(Float32Array.of(1, 2));
  feed.push(new Float32Array(0));
  feed.push(Float32Array.of(3));
  t.deepEqual((await reader.next()).value, Float32Array.of(1, 2, 3));
  const next = reader.next();
  feed.push(Float32Array.of(4));
  t.deepEqual((await next).value, Float32Array.of(4));
  feed.end();
  feed.push(Float32Array.of(5));
  t.true((await reader.next()).done);
  const failing = new AudioFeed();
  failing.push(Float32Array.of(1));
  failing.fail(new RangeError("no more"));
  await t.throwsAsync(failing[Symbol.asyncIterator]().next(), { message: "no more" });
});
