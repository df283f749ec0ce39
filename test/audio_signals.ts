/** Test signals and how well a decoded signal matches one. */
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const packageRoot = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

/** Path of a file in test/fixtures/audio. */
export const audioFixture = (name: string): string => join(packageRoot, "test", "fixtures", "audio", name);

export const audioFixtureBytes = (name: string): Uint8Array => readFileSync(audioFixture(name));

/** `amplitude * sin(2 pi frequency t)` */
export function sine(frequency: number, sampleRate: number, samples: number, amplitude = 1): Float32Array {
  const values = new Float32Array(samples);
  for (let i = 0; i < samples; i++) values[i] = amplitude * Math.sin((2 * Math.PI * frequency * i) / sampleRate);
  return values;
}

/** The mean of the fixtures' two channels: 440 Hz at 0.5 on the left, 1000 Hz at 0.25 on the right. */
export function twoTones(sampleRate: number, samples: number): Float32Array {
  const left = sine(440, sampleRate, samples, 0.5);
  const right = sine(1000, sampleRate, samples, 0.25);
  return left.map((value, i) => (value + (right[i] as number)) / 2);
}

/** Power of `signal - wanted` below that of `wanted`, in dB, over [begin, end). */
export function signalToNoise(signal: Float32Array, wanted: Float32Array, begin = 0, end = wanted.length): number {
  let noise = 0;
  let power = 0;
  for (let i = begin; i < end; i++) {
    noise += ((signal[i] as number) - (wanted[i] as number)) ** 2;
    power += (wanted[i] as number) ** 2;
  }
  return 10 * Math.log10(power / noise);
}

/** Mean power in dB relative to a full-scale sine, over [begin, end). */
export function level(signal: Float32Array, begin = 0, end = signal.length): number {
  let power = 0;
  for (let i = begin; i < end; i++) power += (signal[i] as number) ** 2;
  return 10 * Math.log10((2 * power) / (end - begin));
}
