import { once } from "node:events";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import test from "ava";
import { LogMelPlan } from "../lib/audio/log_mel_plan.js";
import { whisperFeaturesFrom } from "../lib/audio/whisper_features.js";
import { readSafetensors } from "../lib/checkpoint/safetensors.js";
import { availableInstructionSets, decodeAudio, LogMel, setInstructionSet, UsmLiteError, type Tensor } from "../lib/operations.js";
import { sine } from "./audio_signals.js";
import { randomValues } from "./gradient.js";
import { sharedFolder } from "./shared.js";

const shared = sharedFolder();

(shared ? test : test.skip)("agrees with transformers' features of the reference clips", async (t) => {
  const reference = join(shared as string, "reference");
  const frontEnd = LogMel.fromJson(JSON.parse(readFileSync(join(reference, "lasr_ctc", "preprocessor_config.json"), "utf8")));
  const file = readSafetensors(join(reference, "lasr_ctc", "expected.safetensors"));
  const wanted = file.tensor("input_features").toArray();
  const mask = file.tensor("attention_mask").toArray();
  const [, frames, bins] = file.shape("input_features") as [number, number, number];
  const clips = readdirSync(join(reference, "audio")).sort();
  for (const [index, clip] of clips.entries()) {
    const { samples } = await decodeAudio(join(reference, "audio", clip));
    const features = frontEnd.logMel(samples);
    const valid = mask.subarray(index * frames, (index + 1) * frames).reduce((sum, value) => sum + value, 0);
    t.deepEqual(features.shape, [valid, bins]);
    let worst = 0;
    features.toArray().forEach((value, i) => {
      worst = Math.max(worst, Math.abs(value - (wanted[index * frames * bins + i] as number)));
    });
    t.true(worst < 1e-4, `${clip}: ${worst}`);
  }
});

test.serial("every instruction set agrees with the plain transform, whatever the lengths", (t) => {
  for (const config of [
    {},
    { fftLength: 1024, windowLength: 401, hopLength: 77, featureSize: 80 },
    { fftLength: 2048, featureSize: 40 },
    { fftLength: 500 },
    { fftLength: 4000, windowLength: 3999 },
  ]) {
    const frontEnd = new LogMel(config);
    for (const samples of [0, 399, 400, 559, 560, 401, 5000]) {
      const signal = randomValues(samples, samples);
      const results = availableInstructionSets().map((set) => {
        setInstructionSet(set);
        const features = frontEnd.logMel(signal);
        t.deepEqual(features.shape, [frontEnd.frames(samples), frontEnd.config.featureSize]);
        return features.toArray();
      });
      for (const result of results) {
        result.forEach((value, i) => t.true(Math.abs(value - ((results[0] as Float32Array)[i] as number)) < 1e-5));
      }
    }
  }
});

test.serial("frames as Kaldi takes them agree on every instruction set, whatever is added to all samples", (t) => {
  for (const { share, windowLength, hopLength } of [
    { share: 0.97, windowLength: 400, hopLength: 160 },
    { share: 0, windowLength: 2, hopLength: 1 },
    { share: 1, windowLength: 255, hopLength: 33 },
  ]) {
    const settings = { samplingRate: 16000, featureSize: 23, fftLength: 512, windowLength, hopLength, edges: [20, 8000] } as const;
    const plan = new LogMelPlan(
      { ...settings, melScale: "htk", window: "povey", framePreemphasis: share, floor: { smallest: 1e-7 } },
      "settings",
    );
    for (const samples of [0, windowLength - 1, windowLength, windowLength + 9 * hopLength + 1]) {
      const signal = randomValues(samples, samples + 1);
      const [first, ...others] = availableInstructionSets().map((set) => {
        setInstructionSet(set);
        return plan.compute(signal);
      }) as [Tensor, ...Tensor[]];
      t.deepEqual(first.shape, [plan.frames(samples), 23]);
      for (const other of others) other.toArray().forEach((value, i) => t.true(Math.abs(value - (first.toArray()[i] as number)) < 1e-5));
      // A constant that is added goes with the mean.
      const shifted = plan.compute(signal.map((value) => value + 0.5)).toArray();
      first.toArray().forEach((value, i) => t.true(Math.abs(value - (shifted[i] as number)) < 1e-2, `${value} and ${shifted[i]}`));
    }
  }
});

test("a tone is loudest in the filter around it, and silence is the floor", (t) => {
  const frontEnd = new LogMel();
  const features = frontEnd.logMel(sine(1000, 16000, 1600)).toArray();
  const mel = (hertz: number): number => 1127 * Math.log(1 + hertz / 700);
  const wanted = Math.round(((mel(1000) - mel(125)) / (mel(7500) - mel(125))) * 129) - 1;
  const frame = features.subarray(0, 128);
  t.is(frame.indexOf(Math.max(...frame)), wanted);
  const silence = frontEnd.logMel(new Float32Array(1600)).toArray();
  t.true(silence.every((value) => Math.abs(value - Math.log(1e-5)) < 1e-5));
});

test("a frame does not depend on its neighbours", (t) => {
  const frontEnd = new LogMel();
  const signal = randomValues(16000, 8);
  const whole = frontEnd.logMel(signal).toArray();
  for (const frame of [0, 1, 7, 50, 97]) {
    const alone = frontEnd.logMel(signal.slice(frame * 160, frame * 160 + 400)).toArray();
    t.deepEqual(alone, whole.slice(frame * 128, (frame + 1) * 128));
  }
});

test("worker threads compute the same features", async (t) => {
  const library = new URL("../lib/operations.js", import.meta.url).href;
  const program = `
    const { parentPort, workerData } = require("node:worker_threads");
    import(${JSON.stringify(library)}).then(({ LogMel }) => parentPort.postMessage(new LogMel().logMel(workerData).toArray()));
  `;
  const signal = randomValues(16000, 11);
  const here = new LogMel().logMel(signal).toArray();
  const workers = [0, 1, 2].map(() => new Worker(program, { eval: true, workerData: signal }));
  const messages = await Promise.all(workers.map((worker) => once(worker, "message")));
  for (const [there] of messages) t.deepEqual(there, here);
  await Promise.all(workers.map((worker) => worker.terminate()));
});

test("settings that would make other features are refused", (t) => {
  const valid = {
    feature_extractor_type: "LasrFeatureExtractor",
    feature_size: 80,
    padding_side: "right",
    padding_value: 0,
    return_attention_mask: true,
  };
  t.is(LogMel.fromJson(valid).config.featureSize, 80);
  const wrong: [unknown, RegExp][] = [
    [[], /JSON object/],
    [null, /JSON object/],
    [{ ...valid, feature_extractor_type: "WhisperFeatureExtractor" }, /feature_extractor_type/],
    [{ ...valid, feature_size: "80" }, /feature_size/],
    [{ ...valid, hop_length: 0 }, /hop_length/],
    [{ ...valid, n_fft: 600 }, /product of twos and fives/],
    [{ ...valid, win_length: 600 }, /window length/],
    [{ ...valid, sampling_rate: 8000 }, /half the sample rate/],
    [{ ...valid, preemphasis: 0.97 }, /preemphasis/],
    [{ ...valid, do_normalize: true }, /do_normalize/],
    [{ ...valid, top_db: 80 }, /"top_db"/],
  ];
  for (const [json, message] of wrong) {
    t.throws(() => LogMel.fromJson(json, "model/preprocessor_config.json"), { instanceOf: UsmLiteError, code: "BAD_CONFIG", message });
  }
  for (const change of [{ padding_value: 0.5 }, { padding_side: "left" }]) {
    const [key = ""] = Object.keys(change);
    t.throws(() => whisperFeaturesFrom(change, "p.json"), { code: "BAD_CONFIG", message: new RegExp(key) }, "what is heard behind the audio");
  }
  t.throws(() => new LogMel().logMel([0] as unknown as Float32Array), { code: "INVALID_ARGUMENT" });
});
