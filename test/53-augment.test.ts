import test from "ava";
import { noiseAugment, planBatches, specAugment } from "../lib/index.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { randomValues } from "./gradient.js";

const durations = randomValues(500, 3).map((x) => 1 + 4 * (x + 1) ** 2);

test("every utterance is in one batch, which holds no more than its seconds", (t) => {
  for (const options of [{}, { lengthBuckets: 1 }, { shortestFirstEpochs: 3 }]) {
    const batches = planBatches(durations, 2, { batchSeconds: 40, seed: 1, ...options });
    t.deepEqual(
      batches.flat().sort((a, b) => a - b),
      Array.from(durations, (_, index) => index),
    );
    for (const batch of batches) t.true(batch.reduce((sum, index) => sum + (durations[index] as number), 0) <= 40);
    const total = durations.reduce((sum, seconds) => sum + seconds, 0);
    t.true(batches.length < 1.35 * (total / 40), `${batches.length} batches`);
  }
  t.deepEqual(planBatches([90, 1, 2], 0, { batchSeconds: 30, seed: 1, shortestFirstEpochs: 1 }), [[1, 2], [0]]);
  t.deepEqual(planBatches([], 0, { batchSeconds: 30, seed: 1 }), []);
});

test("an epoch's batches depend on seed and epoch alone", (t) => {
  const plan = (seed: number, epoch: number): number[][] => planBatches(durations, epoch, { batchSeconds: 30, seed });
  t.deepEqual(plan(1, 5), plan(1, 5));
  t.notDeepEqual(plan(1, 5), plan(1, 6));
  t.notDeepEqual(plan(1, 5), plan(2, 5));
});

test("buckets put similar lengths together; the curriculum goes from short to long", (t) => {
  const spread = (batch: number[]): number => {
    const lengths = batch.map((index) => durations[index] as number);
    return Math.max(...lengths) - Math.min(...lengths);
  };
  const mean = (batches: number[][]): number => batches.reduce((sum, batch) => sum + spread(batch), 0) / batches.length;
  const options = { batchSeconds: 60, seed: 1 };
  t.true(
    mean(planBatches(durations, 1, { ...options, lengthBuckets: 8 })) <
      0.5 * mean(planBatches(durations, 1, { ...options, lengthBuckets: 1 })),
  );
  const ordered = planBatches(durations, 0, { ...options, shortestFirstEpochs: 1 })
    .flat()
    .map((index) => durations[index] as number);
  t.deepEqual(
    ordered,
    [...ordered].sort((a, b) => a - b),
  );
  t.notDeepEqual(
    planBatches(durations, 1, { ...options, shortestFirstEpochs: 1 }),
    planBatches(durations, 0, { ...options, shortestFirstEpochs: 1 }),
  );
});

test("misuse is a coded error", (t) => {
  t.throws(() => planBatches([1], 0, { batchSeconds: 0, seed: 1 }), { code: "INVALID_ARGUMENT" });
  t.throws(() => planBatches([1], 0, { batchSeconds: 1, seed: 1, lengthBuckets: 0 }), { code: "INVALID_ARGUMENT" });
});

test("SpecAugment masks whole bands and stretches with the mean, reproducibly", (t) => {
  const bins = 40;
  const frames = 300;
  const original = randomValues(frames * bins, 1);
  const masked = original.slice();
  specAugment(masked, bins, new RandomStream(4), { frequencyMasks: 1, timeMasksPerFrame: 0.01 });
  const again = original.slice();
  specAugment(again, bins, new RandomStream(4), { frequencyMasks: 1, timeMasksPerFrame: 0.01 });
  t.deepEqual(masked, again);
  const mean = Math.fround(original.reduce((sum, x) => sum + x, 0) / original.length);
  const isMasked = (frame: number, bin: number): boolean => masked[frame * bins + bin] === mean;
  const bands = Array.from({ length: bins }, (_, bin) => bin).filter((bin) =>
    Array.from({ length: frames }).every((_, frame) => isMasked(frame, bin)),
  );
  const stretches = Array.from({ length: frames }, (_, frame) => frame).filter((frame) =>
    Array.from({ length: bins }).every((_, bin) => isMasked(frame, bin)),
  );
  t.true(bands.length > 0 && bands.length <= 10, `${bands.length} bands`);
  t.true(stretches.length > 0 && stretches.length <= 3 * 12, `${stretches.length} frames`);
  masked.forEach((x, i) => {
    if (!bands.includes(i % bins) && !stretches.includes(Math.floor(i / bins))) t.is(x, original[i] as number);
  });
  specAugment(new Float32Array(0), bins, new RandomStream(1));
  specAugment(new Float32Array(bins), bins, new RandomStream(1));
});

test("longer utterances get more time masks, up to a limit", (t) => {
  const maskedFrames = (frames: number): number => {
    let sum = 0;
    for (let seed = 0; seed < 50; seed++) {
      const features = randomValues(frames * 4, 2);
      const original = features.slice();
      specAugment(features, 4, new RandomStream(seed), { frequencyMasks: 0 });
      for (let frame = 0; frame < frames; frame++) if (features[4 * frame] !== original[4 * frame]) sum++;
    }
    return sum / 50 / frames;
  };
  t.is(maskedFrames(10), 0);
  t.true(maskedFrames(200) < maskedFrames(500));
  t.true(maskedFrames(3000) > 0.2 && maskedFrames(3000) < 0.5);
});

test("noise adds its power and gain shifts all of it", (t) => {
  const bins = 16;
  const original = randomValues(400 * bins, 4).map((x) => 3 * x);
  const quiet = original.slice();
  noiseAugment(quiet, bins, -20, new RandomStream(1), { noiseProbability: 0 });
  const shift = (quiet[0] as number) - (original[0] as number);
  t.true(Math.abs(shift) <= 6 * 0.2303 && shift !== 0);
  t.true(quiet.every((x, i) => Math.abs(x - (original[i] as number) - shift) < 1e-5));

  const noisy = original.slice();
  noiseAugment(noisy, bins, -20, new RandomStream(2), { noiseProbability: 1, gainDecibels: 0, signalToNoise: [0, 0] });
  const power = (values: Float32Array): number => values.reduce((sum, x) => sum + Math.exp(x), 0);
  t.true(noisy.every((x, i) => x >= (original[i] as number) - 1e-5));
  t.true(power(noisy) > 1.5 * power(original) && power(noisy) < 4 * power(original));
  const floored = original.slice();
  noiseAugment(floored, bins, 5, new RandomStream(2));
  t.true(floored.every((x) => x >= 5));
});
