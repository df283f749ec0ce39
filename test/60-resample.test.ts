import test from "ava";
import { availableInstructionSets, resample, setInstructionSet, StreamResampler } from "../lib/operations.js";
import { level, signalToNoise, sine } from "./audio_signals.js";
import { randomValues } from "./gradient.js";

// 44099 Hz and 10007 Hz have no small common ratio with 16 kHz: rows of the filter table are interpolated.
const pairs: readonly (readonly [number, number])[] = [
  [48000, 16000],
  [44100, 16000],
  [8000, 16000],
  [11025, 16000],
  [16000, 48000],
  [96000, 16000],
  [44099, 16000],
  [10007, 16000],
  [16000, 8000],
];

test.serial("a sine comes out as the same sine at the new rate, on every instruction set", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const [from, to] of pairs) {
      const lowestNyquist = Math.min(from, to) / 2;
      const samples = Math.round(from * 0.4);
      for (const frequency of [50, lowestNyquist * 0.5, lowestNyquist * 0.94]) {
        const output = resample(sine(frequency, from, samples), from, to);
        t.is(output.length, Math.round((samples * to) / from));
        const wanted = sine(frequency, to, output.length);
        const edge = Math.ceil(output.length * 0.15);
        // 80 dB of signal to noise includes level (0.1 dB off would be 39 dB) and delay.
        const quality = signalToNoise(output, wanted, edge, output.length - edge);
        t.true(quality > 80, `${set}: ${frequency} Hz from ${from} to ${to}: ${quality.toFixed(1)} dB`);
      }
    }
  }
});

test.serial("what the new rate cannot carry is at least 80 dB down", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const [from, to] of pairs.filter(([from, to]) => from > to)) {
      for (const frequency of [to * 0.501, to * 0.55, to * 0.8].filter((each) => each < from / 2)) {
        const output = resample(sine(frequency, from, Math.round(from * 0.4)), from, to);
        const edge = Math.ceil(output.length * 0.15);
        const remains = level(output, edge, output.length - edge);
        t.true(remains < -80, `${set}: ${frequency} Hz from ${from} to ${to}: ${remains.toFixed(1)} dB`);
      }
    }
  }
});

test("a constant stays constant and the same rate changes nothing", (t) => {
  const output = resample(new Float32Array(4000).fill(0.5), 44100, 16000);
  t.true(output.subarray(200, -200).every((value) => Math.abs(value - 0.5) < 1e-5));
  const noise = randomValues(1000, 5);
  resample(noise, 16000, 16000).forEach((value, i) => t.true(Math.abs(value - (noise[i] as number)) < 1e-6));
});

test("pieces give the same bits as the whole", (t) => {
  const input = randomValues(9001, 6);
  for (const [from, to] of [
    [44100, 16000],
    [8000, 16000],
    [10007, 16000],
    [9, 10],
  ] as const) {
    const whole = resample(input, from, to);
    for (const size of [1, 777, 5000]) {
      const resampler = new StreamResampler(from, to);
      const pieces: number[] = [];
      for (let at = 0; at < input.length; at += size) pieces.push(...resampler.push(input.subarray(at, at + size)));
      pieces.push(...resampler.finish());
      t.deepEqual(Float32Array.from(pieces), whole);
    }
  }
});

test("lengths are exact, down to nothing", (t) => {
  for (const samples of [0, 1, 2, 3, 100, 441]) {
    for (const [from, to] of pairs) {
      const output = resample(randomValues(samples, 7), from, to);
      t.is(output.length, Math.round((samples * to) / from));
      t.true(output.every(Number.isFinite));
    }
  }
});

test("misuse is a coded error", (t) => {
  const samples = new Float32Array(10);
  t.throws(() => resample(samples, 0, 16000), { code: "INVALID_ARGUMENT" });
  t.throws(() => resample(samples, 16000.5, 16000), { code: "INVALID_ARGUMENT" });
  t.throws(() => resample(samples, 16000, 2_000_000), { code: "INVALID_ARGUMENT" });
  t.throws(() => resample(samples, 1, 16000), { code: "INVALID_ARGUMENT", message: /factor of 256/ });
  t.throws(() => resample([1, 2] as unknown as Float32Array, 1, 2), { code: "INVALID_ARGUMENT", message: /Float32Array/ });
});
