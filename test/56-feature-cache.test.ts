import { mkdtempSync, readdirSync, rmSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { decodeAudio, FeatureCache, LogMel, resample, SpeechBatches, UsmLiteError, type Utterance } from "../lib/index.js";
import { defaultLogMelConfig } from "../lib/audio/log_mel.js";
import { decodeFeatures, encodeFeatures } from "../lib/data/feature_file.js";
import { randomValues } from "./gradient.js";

const folder = mkdtempSync(join(tmpdir(), "usm-lite-features-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

/** A 16-bit mono WAV file at 16 kHz. */
function wav(name: string, seconds: number): string {
  const samples = randomValues(Math.round(16000 * seconds), seconds * 10).map((x, i) => x * Math.sin(i / 300) * 12000);
  const bytes = Buffer.alloc(44 + 2 * samples.length);
  bytes.write("RIFF", 0);
  bytes.writeUInt32LE(36 + 2 * samples.length, 4);
  bytes.write("WAVEfmt ", 8);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(1, 20);
  bytes.writeUInt16LE(1, 22);
  bytes.writeUInt32LE(16000, 24);
  bytes.writeUInt32LE(32000, 28);
  bytes.writeUInt16LE(2, 32);
  bytes.writeUInt16LE(16, 34);
  bytes.write("data", 36);
  bytes.writeUInt32LE(2 * samples.length, 40);
  samples.forEach((x, i) => bytes.writeInt16LE(Math.round(x), 44 + 2 * i));
  const path = join(folder, name);
  writeFileSync(path, bytes);
  return path;
}

const utterance = (audioPath: string, duration: number, line: number, more: Partial<Utterance> = {}): Utterance => ({
  audioPath,
  duration,
  text: "AB".repeat(line),
  source: `m.jsonl:${line}`,
  ...more,
});

const a = wav("a.wav", 1.2);
const b = wav("b.wav", 2.1);
const utterances = [
  utterance(a, 1.2, 1),
  utterance(b, 2.1, 2),
  utterance(b, 0.8, 3, { offset: 0.5 }),
  utterance(b, 0.5, 4, { offset: 1.6 }),
];

test("a feature file holds its values to 16 bits, and recognizes damage", (t) => {
  const values = randomValues(7 * 13, 1).map((x) => 20 * x - 5);
  const bytes = encodeFeatures({ values, frames: 7, bins: 13 });
  const read = decodeFeatures(bytes);
  t.is(read?.frames, 7);
  t.is(read?.bins, 13);
  t.true(read?.values.every((x, i) => Math.abs(x - (values[i] as number)) < 40 / 65535));
  t.deepEqual(
    [...(decodeFeatures(encodeFeatures({ values: new Float32Array(6).fill(-3), frames: 2, bins: 3 }))?.values ?? [])],
    Array(6).fill(-3),
  );
  t.is(decodeFeatures(bytes.subarray(0, bytes.length - 1)), undefined);
  t.is(decodeFeatures(bytes.subarray(0, 5)), undefined);
  t.is(decodeFeatures(new Uint8Array(200)), undefined);
  const shifted = new Uint8Array(bytes.length + 1);
  shifted.set(bytes, 1);
  t.deepEqual(decodeFeatures(shifted.subarray(1)), read);
});

test.serial("features are those of the front end, per speed and segment, and computed once", async (t) => {
  const cache = new FeatureCache(join(folder, "cache"), defaultLogMelConfig);
  const progress: number[] = [];
  await cache.prepare(utterances, [0.9, 1], { workers: 2, onProgress: (done, total) => progress.push(done, total) });
  t.deepEqual(progress, [1, 2, 2, 2]);
  const frontEnd = new LogMel();
  for (const { audioPath, duration, offset } of utterances) {
    const samples = (await decodeAudio(audioPath)).samples;
    const cut = offset === undefined ? samples : samples.subarray(16000 * offset, 16000 * (offset + duration));
    for (const speed of [0.9, 1]) {
      const expected = frontEnd.logMel(speed === 1 ? cut : resample(cut, 900, 1000));
      const found = cache.read(utterances.find((one) => one.audioPath === audioPath && one.offset === offset) as Utterance, speed);
      t.deepEqual([found.frames, found.bins], [...expected.shape]);
      const values = expected.toArray();
      t.true(found.values.every((x, i) => Math.abs(x - (values[i] as number)) < 1e-3));
    }
  }
  const again: number[] = [];
  await new FeatureCache(join(folder, "cache"), defaultLogMelConfig).prepare(utterances, [0.9, 1], {
    onProgress: (done) => again.push(done),
  });
  t.deepEqual(again, []);
});

test.serial("damaged files and changed audio are computed again", async (t) => {
  const path = join(folder, "damage");
  const prepare = async (): Promise<number> => {
    let files = 0;
    await new FeatureCache(path, defaultLogMelConfig).prepare([utterances[0] as Utterance], [1], { onProgress: () => files++ });
    return files;
  };
  t.is(await prepare(), 1);
  const file = readdirSync(path, { recursive: true, encoding: "utf8" }).find((name) => name.endsWith(".features"));
  truncateSync(join(path, file as string), 100);
  t.is(await prepare(), 1);
  t.is(await prepare(), 0);
  utimesSync(a, 1000, 1000);
  t.is(await prepare(), 1);
});

test.serial("bad audio names the manifest line; aborting and missing features are coded errors", async (t) => {
  const cache = new FeatureCache(join(folder, "bad"), defaultLogMelConfig);
  const prepare = (one: Utterance, signal?: AbortSignal): Promise<void> => cache.prepare([one], [1], signal ? { signal } : {});
  const noAudio = join(folder, "text.wav");
  writeFileSync(noAudio, "this is no audio at all, only text");
  await t.throwsAsync(prepare(utterance(noAudio, 1, 7)), { instanceOf: UsmLiteError, code: "BAD_AUDIO", message: /m.jsonl:7: / });
  await t.throwsAsync(prepare(utterance(a, 3, 8, { offset: 1 })), { code: "BAD_MANIFEST", message: /m.jsonl:8: .*beyond the end/ });
  await t.throwsAsync(prepare(utterance(wav("short.wav", 0.02), 0.02, 9)), {
    code: "BAD_MANIFEST",
    message: /m.jsonl:9: .*shorter than one frame/,
  });
  await t.throwsAsync(prepare(utterances[1] as Utterance, AbortSignal.abort()), { code: "ABORTED" });
  t.throws(() => cache.read(utterances[1] as Utterance, 1.1), { code: "FILE_NOT_FOUND", message: /m.jsonl:2: .*speed 1.1/ });
});

test.serial("speech batches are reproducible and hold features, targets and seconds", async (t) => {
  const cache = new FeatureCache(join(folder, "batches"), defaultLogMelConfig);
  const speeds = [0.9, 1, 1.1];
  await cache.prepare(utterances, speeds);
  const encode = (text: string): number[] => Array.from(text, (letter) => letter.charCodeAt(0) - 64);
  const options = { batchSeconds: 3, seed: 5, speeds, specAugment: {}, noise: {} };
  const make = (): SpeechBatches => new SpeechBatches(utterances, encode, cache, options);
  const batches = make();
  const seen: number[] = [];
  for (let index = 0; index < batches.count(1); index++) {
    const batch = batches.batch(1, index);
    const same = make().batch(1, index);
    t.deepEqual(batch.features.toArray(), same.features.toArray());
    t.is(batch.offsets.frames, batch.features.dim(0));
    // The same masks for whoever hides them elsewhere.
    t.is(batch.masks, undefined);
    const { features, masks = [], offsets } = batches.batch(1, index, true);
    const [bins, values] = [features.dim(1), features.toArray()];
    t.is(masks.length, offsets.lengths.length);
    masks.forEach((hidden, item) => {
      const begin = offsets.begin(item) * bins;
      const own = values.subarray(begin, begin + (offsets.lengths[item] as number) * bins);
      const mean = own.reduce((sum, value) => sum + value, 0) / own.length;
      for (const [first, last] of hidden.bins) for (let at = 0; at < own.length; at += bins) own.fill(mean, at + first, at + last);
      for (const [first, last] of hidden.frames) own.fill(mean, first * bins, last * bins);
    });
    t.deepEqual(values, batch.features.toArray());
    t.is(batch.targets.length, batch.offsets.lengths.length);
    t.true(Math.abs(batch.audioSeconds - batch.features.dim(0) / 100) < 0.02 * batch.targets.length + 0.01);
    seen.push(...batch.targets.map((labels) => labels.length));
  }
  t.deepEqual(seen.sort(), [2, 4, 6, 8]);
  t.throws(() => batches.batch(1, 99), { code: "INVALID_ARGUMENT" });
  t.throws(() => new SpeechBatches([{ ...(utterances[0] as Utterance), text: "" }], encode, cache, options), {
    code: "BAD_MANIFEST",
    message: /m.jsonl:1: .*empty/,
  });
});
