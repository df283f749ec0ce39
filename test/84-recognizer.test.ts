import { readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { compressModel, evaluate, loadModel, readManifest, Recognizer, Transcriber, UsmLiteError } from "../lib/index.js";
import { roundToNearest } from "./recipes.js";
import { temporaryFolder, tones, writeTinyCorpus, writeTinyModel, writeWav } from "./tiny_model.js";
import { wavFile } from "./wav_writer.js";

const folder = temporaryFolder("recognizer");
test.after.always(folder.clean);
const float = writeTinyModel(join(folder.path, "float"));
const packed = join(folder.path, "packed");
const recognizer = new Recognizer(loadModel(float));
test.before(async () => {
  await compressModel({ model: float, recipe: roundToNearest("int4+2:4"), manifest: undefined, out: packed });
});

test("a batch gives each utterance what it gets alone, float or packed, greedy or beam", (t) => {
  const utterances = [tones(1.3, 1), new Float32Array(0), tones(23, 2), tones(0.2, 3), new Float32Array(100)];
  for (const model of [loadModel(float), loadModel(packed)]) {
    for (const decoder of ["greedy", "beam"] as const) {
      const tested = new Recognizer(model, { decoder, beamWidth: 4 });
      const alone = utterances.map((samples) => tested.transcribe(samples));
      t.deepEqual(tested.transcribeBatch(utterances), alone);
      t.deepEqual(tested.transcribeBatch([...utterances].reverse()), [...alone].reverse());
      t.deepEqual(tested.transcribeBatch([]), []);
      t.true((alone[0]?.text.length ?? 0) > 0);
    }
  }
});

test("audio too short for a frame has no text, and no length fails", (t) => {
  for (const samples of [0, 1, 159, 160, 399, 400, 401, 720, 800, 1040, 1200, 2000, 3000]) {
    const result = recognizer.transcribe(new Float32Array(samples));
    t.is(result.duration, samples / 16000);
    if (samples < 400) t.like(result, { text: "", words: [], tokens: [] });
  }
});

test("long audio is recognized in chunks, the same way each time, with rising times within the audio", (t) => {
  const long = tones(70, 5);
  const whole = recognizer.transcribe(long);
  t.deepEqual(recognizer.transcribe(long), whole);
  t.is(whole.duration, 70);
  const starts = whole.words.map(({ start }) => start);
  t.deepEqual(
    [...starts].sort((a, b) => a - b),
    starts,
  );
  t.true(whole.words.every(({ start, end }) => start <= end && end <= 70.1));
  t.true((whole.words.at(-1)?.end ?? 0) > 60, "the last chunk is there");
  const [frames] = recognizer.logProbabilities([long]);
  t.true(Math.abs((frames?.frames ?? 0) - 70 / 0.04) <= 4, `${frames?.frames} frames`);
  // The beginning sees the same context as a clip cut after it.
  const [cut] = recognizer.logProbabilities([long.subarray(0, 1999 * 160 + 400)]); // 2000 log-mel frames
  const tokens = cut?.tokens as number;
  t.deepEqual(frames?.values.slice(0, 100 * tokens), cut?.values.slice(0, 100 * tokens));
});

test("transcription stops when asked to", (t) => {
  let asked = 0;
  t.throws(() => recognizer.transcribe(tones(170, 1), () => asked++ > 0), { code: "ABORTED" });
  t.throws(() => recognizer.transcribe(tones(1, 1), { hotwords: ["CAT"] } as never), {
    code: "INVALID_ARGUMENT",
    message: /isAborted must be a function/,
  });
  t.is(asked, 2);
});

test("a transcriber takes paths, file contents and samples, in order", async (t) => {
  const samples = tones(1.5, 4);
  const path = writeWav(join(folder.path, "a.wav"), samples);
  await using transcriber = await Transcriber.load({ model: float });
  const results = await Promise.all([
    transcriber.transcribe(path),
    transcriber.transcribe(readFileSync(path)),
    transcriber.transcribe(samples),
  ]);
  t.deepEqual(results[1], results[0]);
  t.deepEqual(results[2], recognizer.transcribe(samples));
});

test("several transcribers work at once and close by themselves", async (t) => {
  const expected = recognizer.transcribe(tones(2, 1));
  const transcribers = await Promise.all([0, 1, 2].map(() => Transcriber.load({ model: float })));
  const results = await Promise.all(transcribers.flatMap((transcriber) => [1, 1].map((seed) => transcriber.transcribe(tones(2, seed)))));
  for (const result of results) t.deepEqual(result, expected);
  const [first, second] = transcribers as [Transcriber, Transcriber];
  const pending = t.throwsAsync(first.transcribe(tones(60, 1)), { code: "ABORTED", message: /closed/ });
  await first.close();
  await pending;
  await t.throwsAsync(first.transcribe(tones(1, 1)), { code: "ABORTED", message: /closed/ });
  await first.close();
  t.deepEqual(await second.transcribe(tones(2, 1)), expected);
  await Promise.all(transcribers.map((transcriber) => transcriber.close()));
});

test("an abort signal gives up one request and leaves the others alone", async (t) => {
  await using transcriber = await Transcriber.load({ model: float });
  const controller = new AbortController();
  const long = t.throwsAsync(transcriber.transcribe(tones(200, 1), { signal: controller.signal }), { code: "ABORTED", message: /signal/ });
  const next = transcriber.transcribe(tones(2, 1));
  controller.abort();
  await long;
  t.deepEqual(await next, recognizer.transcribe(tones(2, 1)));
  await t.throwsAsync(transcriber.transcribe(tones(1, 1), { signal: AbortSignal.abort() }), { code: "ABORTED" });
});

test("what cannot be transcribed is a coded error, and the transcriber goes on", async (t) => {
  await t.throwsAsync(Transcriber.load({ model: join(folder.path, "none") }), {
    instanceOf: UsmLiteError,
    code: "FILE_NOT_FOUND",
    message: /none/,
  });
  for (const [option, message] of [
    [{ language: "de" }, /takes no language; leave it out/],
    [{ task: "translate" }, /does not translate; leave the task out/],
  ] as const) {
    t.throws(() => new Recognizer(loadModel(float), option), { code: "INVALID_ARGUMENT", message });
  }
  await using narrow = await Transcriber.load({ model: float, beamWidth: 0 });
  await t.throwsAsync(narrow.transcribe(tones(1, 1)), { code: "INVALID_ARGUMENT", message: /beamWidth/ });
  await using transcriber = await Transcriber.load({ model: float, maximumSeconds: 5 });
  for (const audio of [new Int16Array(1600), new ArrayBuffer(100), 5]) {
    await t.throwsAsync(transcriber.transcribe(audio as never), {
      code: "INVALID_ARGUMENT",
      message: /^audio is the path of a file or its bytes, .* This is \w+$/,
    });
  }
  await t.throwsAsync(
    async () => {
      for await (const _ of transcriber.stream([1, 2] as never));
    },
    { code: "INVALID_ARGUMENT", message: /a Float32Array, not number/ },
  );
  t.throws(() => new Recognizer(loadModel(float), { decoder: "fast" as never }), {
    code: "INVALID_ARGUMENT",
    message: /decoder "fast" is unknown/,
  });
  const text = join(folder.path, "notes.txt");
  writeFileSync(text, "This is no audio. ".repeat(50));
  await t.throwsAsync(transcriber.transcribe(join(folder.path, "none.wav")), { code: "FILE_NOT_FOUND", message: /none\.wav/ });
  await t.throwsAsync(transcriber.transcribe(text), { code: "BAD_AUDIO", message: /notes\.txt/ });
  await t.throwsAsync(transcriber.transcribe(new Uint8Array(10)), { code: "BAD_AUDIO" });
  await t.throwsAsync(transcriber.transcribe(writeWav(join(folder.path, "long.wav"), tones(6, 1))), {
    code: "AUDIO_TOO_LONG",
    message: /5/,
  });
  await t.throwsAsync(transcriber.transcribe(tones(6, 1)), { code: "AUDIO_TOO_LONG" });
  await t.throwsAsync(transcriber.transcribe(Float32Array.of(0, NaN, 0)), { code: "BAD_AUDIO", message: /NaN/ });
  t.deepEqual(await transcriber.transcribe(tones(2, 1)), recognizer.transcribe(tones(2, 1)));
});

test("ten hours are refused unless allowed, and a file that only promises them is truncated", async (t) => {
  const path = join(folder.path, "ten_hours.wav");
  writeFileSync(path, wavFile([[]], { sampleRate: 16000, coding: "u8", dataSize: 36_000 * 16_000 }).subarray(0, 44));
  await using patient = await Transcriber.load({ model: float, maximumSeconds: 40_000 });
  await t.throwsAsync(patient.transcribe(path), { code: "BAD_AUDIO", message: /ten_hours\.wav: .*ends too early/ });
  truncateSync(path, 44 + 36_000 * 16_000); // a hole in the file: no disk is used
  await using transcriber = await Transcriber.load({ model: float });
  await t.throwsAsync(transcriber.transcribe(path), {
    code: "AUDIO_TOO_LONG",
    message: /ten_hours\.wav holds 36000\.0 s .* at most 14400 s .*maximumSeconds .*--max-hours/,
  });
  const controller = new AbortController();
  const long = t.throwsAsync(patient.transcribe(path, { signal: controller.signal }), { code: "ABORTED", message: /signal/ });
  const next = patient.transcribe(tones(2, 1));
  controller.abort();
  await long;
  t.deepEqual(await next, recognizer.transcribe(tones(2, 1)), "the worker leaves the long file");
});

test("evaluation counts what the recognizer says, by dataset", async (t) => {
  const manifest = writeTinyCorpus(join(folder.path, "corpus"), 5);
  const utterances = readManifest(manifest);
  const greedy = new Recognizer(loadModel(float), { decoder: "greedy" });
  const progress: number[] = [];
  const result = await evaluate(greedy, utterances, { batchSeconds: 4, onProgress: (done) => progress.push(done) });
  t.is(progress.at(-1), 5);
  t.is(result.utterances, 5);
  t.deepEqual(Object.keys(result.datasets).sort(), ["even", "odd"]);
  t.is(result.words, (result.datasets["even"]?.words ?? 0) + (result.datasets["odd"]?.words ?? 0));
  t.true(Math.abs(result.audioSeconds - utterances.reduce((sum, { duration }) => sum + duration, 0)) < 1e-6);
  t.true(result.werInterval[0] <= result.wer && result.wer <= result.werInterval[1]);
  t.deepEqual(
    result.transcripts.map(({ reference }) => reference),
    utterances.map(({ text }) => text),
  );
  const other = await evaluate(greedy, utterances, { batchSeconds: 100 });
  t.deepEqual(other.transcripts, result.transcripts);
  const silent = utterances.map((utterance) => ({ ...utterance, text: "" }));
  await t.throwsAsync(evaluate(greedy, silent), { code: "BAD_MANIFEST", message: /transcript/ });
});
