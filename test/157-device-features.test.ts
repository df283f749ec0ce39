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
import { kaldiFeaturesFrom } from "../lib/audio/kaldi_features.js";
import { normalizedColumns } from "../lib/audio/normalized_columns.js";
import { ParakeetFeatures } from "../lib/audio/parakeet_features.js";
import { rawSamplesFrom } from "../lib/audio/raw_samples.js";
import { whisperFeaturesFrom } from "../lib/audio/whisper_features.js";
import { deviceSamples } from "../lib/device/device_samples.js";
import { limitRange, normalisedColumns } from "../lib/device/feature_scaling.js";
import { randomTensor, randomValues } from "./gradient.js";

const largestDifference = (a: Float32Array, b: Float32Array): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - (b[i] as number))), 0);

/** Loud, quiet and silent stretches of a tone with noise. */
function speech(count: number, seed: number): Float32Array {
  return randomValues(count, seed).map((noise, i) => (i % 5000 > 4000 ? 0 : 1e-3 * noise + 0.9 * Math.sin(0.002 * i) * Math.sin(0.4 * i)));
}

const parakeet = { featureSize: 80, samplingRate: 16000, hopLength: 160, fftLength: 512, windowLength: 400, preemphasis: 0.97 };
const frontEnds: Record<string, FrontEnd> = {
  lasr: new LogMel(),
  "parakeet, 80 bins": new ParakeetFeatures(parakeet),
  "128 bins, an odd window": new ParakeetFeatures({ ...parakeet, featureSize: 128, fftLength: 400, windowLength: 383, preemphasis: 0 }),
  "a transform of 80 with one bin": new LogMel({ fftLength: 80, windowLength: 71, hopLength: 33, featureSize: 1 }),
  kaldi: kaldiFeaturesFrom({}, "p.json"),
  "kaldi, 23 bins": kaldiFeaturesFrom({ num_mel_bins: 23 }, "p.json"),
  // Windows of a second, of ten and of two frames.
  whisper: whisperFeaturesFrom({ chunk_length: 1, hop_length: 1600 }, "p.json"),
  "whisper, 33 bins": whisperFeaturesFrom({ chunk_length: 1, hop_length: 8000, n_fft: 500, feature_size: 33 }, "p.json"),
  "samples, normalised": rawSamplesFrom({}, "p.json"),
  "samples as they are": rawSamplesFrom({ do_normalize: false }, "p.json"),
};

const loud = (count: number): Float32Array => Float32Array.from({ length: count }, (_, i) => (i % 7 < 3 ? 1 : -1));

test("features are those of the CPU, whatever else is in the batch, and the same bits alone", (t) => {
  const lengths = onlySmall ? [1043, 0] : [2563, 0, 399, 400, 559, 560, 1043];
  const constant = new Float32Array(901).fill(0.1);
  const utterances = [...lengths.map((length, index) => speech(length, index)), new Float32Array(720), constant, loud(800)];
  for (const [name, frontEnd] of Object.entries(frontEnds)) {
    tidy(() => {
      const features = frontEnd.featuresOnGpu(utterances);
      const values = features.toArray();
      let begin = 0;
      for (const [index, samples] of utterances.entries()) {
        const expected = frontEnd.features(samples);
        const mine = values.slice(begin, (begin += expected.size));
        const difference = largestDifference(expected.toArray(), mine);
        t.true(difference < 1e-4, `${name}, utterance ${index}: differs by ${difference}`);
        if (index % 3 === 0) t.deepEqual(frontEnd.featuresOnGpu([samples]).toArray(), mine, `${name}, utterance ${index} alone`);
      }
      t.is(begin, values.length);
      t.is(features.dim(0), utterances.map(({ length }) => frontEnd.frames(length)).reduce((sum, frames) => sum + frames));
    });
  }
});

test("what Whisper hears ends with its window", (t) => {
  const frontEnd = frontEnds["whisper"] as FrontEnd;
  const longer = speech(16_400, 3);
  for (const samples of [longer, longer.subarray(0, 16_000), longer.subarray(0, 15_999)]) {
    using features = frontEnd.featuresOnGpu([samples]);
    t.deepEqual(features.shape, [10, 80]);
    t.true(largestDifference(frontEnd.features(samples).toArray(), features.toArray()) < 1e-4, `${samples.length} samples`);
  }
});

test("statistics of long utterances come from parts, as many as their length asks for", (t) => {
  for (const { lengths, columns, mean, size } of [
    { lengths: [1, 70, 0, 129], columns: 33, mean: -7, size: 2 },
    { lengths: [4200, 64], columns: 2, mean: 100, size: 1e-2 }, // 5 parts
    { lengths: [4500], columns: 17, mean: 0, size: 1 }, // more than 64 parts of the least size
  ])
    tidy(() => {
      const offsets = new SequenceOffsets(lengths);
      const values = randomValues(offsets.frames * columns, 1).map((value) => mean + size * value);
      const sequences = new DeviceSequences(offsets);
      const features = DeviceTensor.from(Tensor.from(values, [offsets.frames, columns]), "float32");
      const found = normalisedColumns(features, sequences, { addedVariance: 1e-7 }).toArray();
      lengths.forEach((length, index) => {
        const rows = (all: Float32Array): Float32Array =>
          all.subarray(offsets.begin(index) * columns, (offsets.begin(index) + length) * columns);
        const expected = normalizedColumns(rows(values), columns, (variance) => Math.sqrt(variance + 1e-7));
        t.true(largestDifference(expected, rows(found)) < 1e-5, `[${lengths.join()}] x ${columns}, sequence ${index}`);
      });
    });
});

test("values that are no numbers stay none, and harm no other utterance", (t) => {
  for (const [name, frontEnd] of Object.entries(frontEnds)) {
    tidy(() => {
      const [broken, whole] = [speech(720, 1), speech(720, 2)];
      broken[300] = NaN;
      const expected = frontEnd.features(broken).toArray();
      const values = frontEnd.featuresOnGpu([broken, whole]).toArray();
      expected.forEach((value, i) => t.is(Number.isNaN(values[i]), Number.isNaN(value), `${name}, ${i}`));
      t.deepEqual(values.subarray(expected.length), frontEnd.featuresOnGpu([whole]).toArray(), name);
    });
  }
});

test("what is no array of samples is refused", (t) => {
  const invalid = { code: "INVALID_ARGUMENT", message: /array of Float32Array/ };
  for (const utterances of [undefined, new Float32Array(3), [[0]], [new Float64Array(2)]]) {
    t.throws(() => deviceSamples(utterances as unknown as Float32Array[]), invalid);
  }
  const sequences = new DeviceSequences(new SequenceOffsets([3, 2]));
  const features = (type: "float32" | "bfloat16", ...shape: number[]): DeviceTensor => DeviceTensor.zeros(shape, type);
  const wrong: [() => void, RegExp][] = [
    [() => normalisedColumns(features("bfloat16", 5, 2), sequences, {}), /bfloat16; they must be float32/],
    [() => normalisedColumns(features("float32", 6, 2), sequences, {}), /5 frames but features have shape \(6, 2\)/],
    [() => normalisedColumns(features("float32", 5, 2), sequences, {}, { frames: 2, sequences }), /sequence 0 has 3 frames, which make 1, not 3/],
    [() => normalisedColumns(features("float32", 5), sequences, {}, { frames: 2, sequences }), /framesPerStacked/],
    [() => limitRange(features("float32", 5), sequences, 8), /must be a matrix/],
    [() => limitRange(features("float32", 6, 2), sequences, 8), /5 frames/],
    [() => limitRange(features("float32", 5, 2), sequences, -1), /range/],
  ];
  for (const [call, message] of wrong) t.throws(call, { code: "INVALID_ARGUMENT", message });
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
