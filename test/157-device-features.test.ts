import { assertClose, onlySmall } from "./gpu.js";
import test from "ava";
import {
  deviceCtcBestPath,
  deviceLogSoftmax,
  DeviceSequences,
  deviceSpecAugment,
  DeviceTensor,
  LogMel,
  SequenceOffsets,
  specAugment,
  specAugmentMasks,
  Tensor,
  tidy,
} from "../lib/index.js";
import type { FrontEnd } from "../lib/audio/front_end.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { LogMelPlan } from "../lib/audio/log_mel_plan.js";
import { ParakeetFeatures } from "../lib/audio/parakeet_features.js";
import { randomTensor, randomValues } from "./gradient.js";

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);

/** Loud, quiet and silent stretches of a tone with noise. */
function speech(count: number, seed: number): Float32Array {
  return randomValues(count, seed).map((noise, i) => (i % 5000 > 4000 ? 0 : 1e-3 * noise + 0.9 * Math.sin(0.002 * i) * Math.sin(0.4 * i)));
}

test("frames without their mean are refused: the GPU has no kernel that takes it off", (t) => {
  const lengths = { samplingRate: 16000, featureSize: 80, fftLength: 512, windowLength: 400, hopLength: 160 };
  const plan = new LogMelPlan(
    { ...lengths, edges: [20, 8000], melScale: "htk", window: "povey", framePreemphasis: 0.97, floor: { smallest: 1e-7 } },
    "settings",
  );
  t.throws(() => plan.onGpu({ frames: (samples) => plan.frames(samples) }), { code: "UNSUPPORTED_SPEC", message: /made on the CPU only/ });
});

test("log-mel features are those of the CPU, whatever else is in the batch", (t) => {
  const parakeet = { featureSize: 80, samplingRate: 16000, hopLength: 160, fftLength: 512, windowLength: 400, preemphasis: 0.97 };
  const frontEnds: Record<string, FrontEnd> = {
    lasr: new LogMel(),
    "parakeet, 80 bins": new ParakeetFeatures(parakeet),
    "128 bins, an odd window": new ParakeetFeatures({ ...parakeet, featureSize: 128, fftLength: 400, windowLength: 383, preemphasis: 0 }),
    "a transform of 80 with one bin": new LogMel({ fftLength: 80, windowLength: 71, hopLength: 33, featureSize: 1 }),
  };
  const lengths = onlySmall ? [900, 0] : [2400, 0, 399, 400, 1033];
  const utterances = lengths.map((length, index) => speech(length, index));
  for (const [name, frontEnd] of Object.entries(frontEnds)) {
    tidy(() => {
      const features = (frontEnd.featuresOnGpu as NonNullable<FrontEnd["featuresOnGpu"]>)(utterances);
      const values = features.toArray();
      let row = 0;
      for (const [index, samples] of utterances.entries()) {
        const expected = frontEnd.features(samples);
        const mine = values.subarray(row * frontEnd.config.featureSize, (row + expected.dim(0)) * frontEnd.config.featureSize);
        const difference = largestDifference(expected.toArray(), mine);
        t.true(difference < 1e-4, `${name}, utterance ${index}: differs by ${difference}`);
        row += expected.dim(0);
      }
      t.is(row, features.dim(0));
    });
  }
});

test("masks drawn from one seed hide the same on both devices", (t) => {
  const [lengths, bins] = [[50, 0, 27, 1], 20];
  const offsets = new SequenceOffsets(lengths);
  using sequences = new DeviceSequences(offsets);
  for (const options of [
    {},
    { frequencyMasks: 3, frequencyMaskShare: 1, timeMasksPerFrame: 0.2, timeMaskShare: 0.3, maximumTimeMasks: 4 },
    { frequencyMasks: 0, timeMasksPerFrame: 0 },
  ]) {
    for (const [type, tolerance] of [
      ["float32", 1e-6],
      ["bfloat16", 2 ** -8],
    ] as const) {
      const features = DeviceTensor.from(randomTensor([offsets.frames, bins], 4), type);
      const expected = features.toArray();
      const [ours, theirs] = [new RandomStream(7), new RandomStream(7)];
      lengths.forEach((frames, index) =>
        specAugment(expected.subarray(offsets.begin(index) * bins, (offsets.begin(index) + frames) * bins), bins, theirs, options),
      );
      deviceSpecAugment(
        features,
        sequences,
        lengths.map((frames) => specAugmentMasks(frames, bins, ours, options)),
      );
      assertClose(t, features.toArray(), expected, tolerance, type);
      t.is(ours.integer(1e6), theirs.integer(1e6)); // as many numbers were drawn
    }
  }
  const features = DeviceTensor.zeros([offsets.frames, bins]);
  const none = { bins: [], frames: [] };
  t.throws(() => deviceSpecAugment(features, sequences, [none]), { code: "INVALID_ARGUMENT", message: /4 sequences but masks of 1/ });
  t.throws(() => deviceSpecAugment(features, sequences, [none, none, { bins: [[0, 21]], frames: [] }, none]), {
    code: "INVALID_ARGUMENT",
    message: /sequence 2 does not lie within its 20 bins/,
  });
  t.throws(() => deviceSpecAugment(features, sequences, [none, { bins: [], frames: [[0, 1]] }, none, none]), {
    code: "INVALID_ARGUMENT",
    message: /0 frames/,
  });
  t.throws(() => deviceSpecAugment(DeviceTensor.zeros([3, 4]), sequences, [none, none, none, none]), {
    code: "INVALID_ARGUMENT",
    message: /78 frames/,
  });
});

test("the best path holds the largest of each frame, the first of equals, and the blank", (t) => {
  for (const [frames, vocabulary, blank, type] of [
    [9, 33, 0, "bfloat16"],
    [5, 3, 2, "bfloat16"],
    [1, 1, 0, "float16"],
    [3, 300, 128, "bfloat16"],
    [3, 300, 128, "float16"],
  ] as const) {
    const values = randomValues(frames * vocabulary, frames);
    if (vocabulary > 20) [values[vocabulary + 20], values[vocabulary + 7]] = [5, 5];
    const logits = DeviceTensor.from(Tensor.from(values, [frames, vocabulary]), type);
    const scores = deviceLogSoftmax(logits).toArray();
    const path = deviceCtcBestPath(logits, blank).toArray();
    for (let frame = 0; frame < frames; frame++) {
      const row = scores.subarray(frame * vocabulary, (frame + 1) * vocabulary);
      const best = row.indexOf(Math.max(...row));
      t.is(path[3 * frame], best);
      t.true(
        largestDifference(path.subarray(3 * frame + 1, 3 * frame + 3), Float32Array.of(row[best] as number, row[blank] as number)) < 1e-5,
      );
    }
    if (vocabulary > 20 && frames > 1) t.is(path[3], 7);
  }
  t.throws(() => deviceCtcBestPath(DeviceTensor.zeros([2, 4]), 4), { code: "INVALID_ARGUMENT" });
  t.throws(() => deviceCtcBestPath(DeviceTensor.zeros([2, 4], "float32"), 0), { code: "INVALID_ARGUMENT", message: /bfloat16 or float16/ });
});
