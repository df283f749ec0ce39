import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { decodeAudio, readAudio } from "../lib/operations.js";
import { signalToNoise, sine } from "./audio_signals.js";
import { randomValues } from "./gradient.js";
import { wavFile, type WavCoding, type WavOptions } from "./wav_writer.js";

const folder = mkdtempSync(join(tmpdir(), "usm-lite-wav-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const at16k = (coding: WavCoding, more: Partial<WavOptions> = {}): WavOptions => ({ sampleRate: 16000, coding, ...more });
const resolution: Record<string, number> = { u8: 2 ** -7, s16: 2 ** -15, s24: 2 ** -23, s32: 2 ** -24, f32: 0, f64: 2 ** -24 };

test("all sample types, channel counts and kinds of header", async (t) => {
  for (const [coding, step] of Object.entries(resolution)) {
    for (const channels of [1, 2, 6]) {
      for (const extensible of [false, true]) {
        const signals = Array.from({ length: channels }, (_, c) => randomValues(333, c + 1));
        const file = wavFile(signals, at16k(coding as WavCoding, { extensible, rf64: channels === 2 }));
        const { samples, durationSeconds } = await decodeAudio(file);
        t.is(samples.length, 333);
        t.is(durationSeconds, 333 / 16000);
        samples.forEach((value, i) => {
          const mean = signals.reduce((sum, signal) => sum + (signal[i] as number), 0) / channels;
          t.true(Math.abs(value - mean) <= step * 1.01 + 1e-7, `${coding}, ${channels} channels, sample ${i}`);
        });
      }
    }
  }
});

test("A-law and mu-law codes have the values of G.711", async (t) => {
  const codes = [0x00, 0x55, 0x80, 0xd5, 0xff, 0x7f, 0x2a, 0xaa];
  const expected = {
    alaw: [-5504, -8, 5504, 8, 848, -848, -32256, 32256],
    mulaw: [-32124, -716, 32124, 716, 0, 0, -5372, 5372],
  };
  for (const coding of ["alaw", "mulaw"] as const) {
    const { samples } = await decodeAudio(wavFile([codes], at16k(coding)));
    t.deepEqual(
      [...samples].map((value) => value * 32768),
      expected[coding],
      coding,
    );
  }
});

test("any rate becomes 16 kHz", async (t) => {
  for (const sampleRate of [8000, 11025, 22050, 44100, 48000, 96000]) {
    const file = wavFile([sine(440, sampleRate, sampleRate * 0.4)], { sampleRate, coding: "f32" });
    const { samples } = await decodeAudio(file);
    t.is(samples.length, 6400);
    t.true(signalToNoise(samples, sine(440, 16000, 6400), 500, 5900) > 80);
  }
});

test("headers written by programs that cannot seek back, and stray chunks", async (t) => {
  const signal = [randomValues(101, 9)];
  const whole = (await decodeAudio(wavFile(signal, at16k("u8")))).samples;
  const stray = [
    ["LIST", randomBytes(7)],
    ["JUNK", new Uint8Array(70_001)],
    ["bext", new Uint8Array(0)],
  ] as const;
  const variants: Partial<WavOptions>[] = [
    { dataSize: 0xffffffff, riffSize: 0xffffffff },
    { dataSize: 0x7ffff000 },
    { dataSize: 0, riffSize: 0 },
    { chunks: stray },
    { chunks: stray, pad: false },
  ];
  for (const variant of variants) {
    const file = wavFile(signal, at16k("u8", variant));
    // The size in the header of an odd file does not count its padding, one without a size does.
    const samples = (await decodeAudio(file)).samples.subarray(0, 101);
    t.deepEqual(samples, whole);
  }
  // What follows the data is no audio.
  const followed = Buffer.concat([wavFile([randomValues(100, 9)], at16k("u8")), Buffer.from("LIST\x04\0\0\0junk")]);
  t.is((await decodeAudio(followed)).samples.length, 100);
});

test("a truncated file is an error that counts what was found, or is taken as it is", async (t) => {
  const file = wavFile([randomValues(1000, 3), randomValues(1000, 4)], at16k("s16"));
  const cut = file.subarray(0, file.length - 2001);
  await t.throwsAsync(decodeAudio(cut), { code: "BAD_AUDIO", message: /499 samples \(0\.03 s\) of 1000 were found/ });
  t.is((await decodeAudio(cut, { allowTruncated: true })).samples.length, 499);
  for (const length of [4, 20, 43]) {
    await t.throwsAsync(decodeAudio(file.subarray(0, length)), { code: "BAD_AUDIO" }, `${length} bytes`);
  }
});

test("hostile headers are coded errors", async (t) => {
  const good = wavFile([randomValues(50, 3)], at16k("s16"));
  const patched = (at: number, bytes: readonly number[]): Buffer => {
    const file = Buffer.from(good);
    file.set(bytes, at);
    return file;
  };
  const cases: [Uint8Array, RegExp][] = [
    [new Uint8Array(0), /empty/],
    [wavFile([[]], at16k("s16")), /no samples/],
    [patched(22, [0, 0]), /no channels/],
    [patched(24, [0, 0, 0, 0]), /0 Hz/],
    [patched(24, [1, 0, 0, 0]), /1 Hz cannot be converted/],
    [patched(32, [0, 0]), /inconsistent: 0 bytes/],
    [patched(32, [9, 0]), /inconsistent/],
    [patched(34, [77, 0]), /inconsistent/],
    [patched(16, [0xff, 0xff, 0xff, 0x7f]), /format chunk has/],
    [patched(16, [4, 0, 0, 0]), /format chunk has 4 bytes/],
    [patched(40, [0xfe, 0xff, 0xff, 0xff]), /50 samples .* of 2147483647 were found/],
    [patched(12, [0x4a, 0x55, 0x4e, 0x4b]), /before the format chunk/],
    [wavFile([[0, 0.5, NaN]], at16k("f32")), /sample 2 is NaN/],
    [wavFile([[0, 1e300]], at16k("f64")), /sample 1 is Infinity/],
  ];
  for (const [file, message] of cases) await t.throwsAsync(decodeAudio(file), { code: "BAD_AUDIO", message });
});

test("ten hours are refused at once, and a long file is read piece by piece", async (t) => {
  const path = join(folder, "long.wav");
  const header = wavFile([[]], at16k("u8", { dataSize: 36_000 * 16_000 })).subarray(0, 44);
  writeFileSync(path, header);
  truncateSync(path, 44 + 36_000 * 16_000); // a hole in the file: no disk is used
  await t.throwsAsync(decodeAudio(path), { code: "AUDIO_TOO_LONG", message: /long\.wav holds 36000\.0 s .* at most 7200 s/ });
  let count = 0;
  let largest = 0;
  for await (const piece of readAudio(path)) {
    count += piece.length;
    largest = Math.max(largest, piece.length);
    if (count > 16_000 * 600) break;
  }
  t.true(largest < 1 << 19);
});

function randomBytes(count: number): Uint8Array {
  return Uint8Array.from(randomValues(count, 12), (value) => (value + 1) * 127);
}
