import { execFileSync } from "node:child_process";
import { readdirSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { decodeAudio } from "../lib/operations.js";
import { audioFixtureBytes, signalToNoise, twoTones } from "./audio_signals.js";
import { flacFile, type FlacOptions, type Subframe } from "./flac_encoder.js";
import { randomValues } from "./gradient.js";
import { sharedFolder } from "./shared.js";

const shared = sharedFolder();
const lpc: Subframe = { kind: "lpc", coefficients: [1900, -1000, 100, -20, 3, 40, -7, 12], shift: 10 };
const smooth: Subframe = { kind: "lpc", coefficients: [32, -16], shift: 4 };
const allSubframes: readonly Subframe[] = [
  { kind: "verbatim" },
  ...[0, 1, 2, 3, 4].map((order) => ({ kind: "fixed", order }) as const),
  lpc,
  { kind: "lpc", coefficients: Array.from({ length: 32 }, (_, i) => (i === 0 ? 16 : i % 3 === 0 ? -1 : 0)), shift: 4 },
];

/** Correlated channels of whole numbers: slow waves and a little noise, of full scale at `bits` bits. */
function signals(channels: number, samples: number, bits: number, seed = 1): number[][] {
  const scale = 2 ** (bits - 1);
  return Array.from({ length: channels }, (_, c) => {
    const noise = randomValues(samples, seed + c);
    return Array.from(noise, (value, i) => {
      const wave = 0.9 * Math.sin(i / 17 + c / 5) + 0.01 * value;
      return Math.max(-scale, Math.min(scale - 1, Math.round(wave * scale)));
    });
  });
}

const base: FlacOptions = { sampleRate: 16000, bits: 16, blockSizes: [192], subframes: allSubframes, rice: 9 };

async function decodesTo(t: { deepEqual(a: unknown, b: unknown, message?: string): unknown }, channels: number[][], options: FlacOptions) {
  const { samples } = await decodeAudio(flacFile(channels, options));
  const scale = 2 ** (options.bits - 1) * channels.length;
  const wanted = (channels[0] as number[]).map((_, i) =>
    Math.fround(channels.reduce((sum, channel) => sum + (channel[i] as number), 0) / scale),
  );
  t.deepEqual([...samples], wanted, JSON.stringify(options));
}

test("every subframe type, exactly", async (t) => {
  await decodesTo(t, signals(1, 1700, 16), base);
  await decodesTo(t, [Array<number>(400).fill(-12345)], { ...base, subframes: [{ kind: "constant" }] });
});

test("every bit depth and stereo mode, exactly", async (t) => {
  for (const bits of [4, 5, 8, 12, 16, 20, 24, 31, 32]) {
    for (const stereo of ["independent", "left-side", "side-right", "mid-side"] as const) {
      const rice = Math.min(Math.max(bits - 8, 0), 24);
      const options = {
        ...base,
        bits,
        stereo,
        rice,
        longParameters: true,
        subframes: [{ kind: "verbatim" }, { kind: "fixed", order: 2 }, smooth] as const,
      };
      await decodesTo(t, signals(2, 500, bits), options);
    }
  }
});

test("extreme samples keep all their bits through mid and side", async (t) => {
  const low = -(2 ** 31);
  const high = 2 ** 31 - 1;
  const left = [low, high, low, high, 0, -1, 1, high];
  const right = [high, low, low, high, -1, 0, -1, -1];
  for (const stereo of ["left-side", "side-right", "mid-side"] as const) {
    await decodesTo(t, [left, right], { ...base, bits: 32, stereo, subframes: [{ kind: "verbatim" }], blockSizes: [8] });
  }
});

test("channels, block sizes, wasted bits, partitions and escapes", async (t) => {
  for (const channels of [1, 3, 6, 8]) await decodesTo(t, signals(channels, 300, 16), base);
  await decodesTo(t, signals(2, 3000, 16), {
    ...base,
    blockSizes: [16, 1, 999, 37, 256],
    subframes: [{ kind: "verbatim" }, { kind: "fixed", order: 1 }],
  });
  const even = signals(1, 640, 13).map((channel) => channel.map((value) => value * 8));
  await decodesTo(t, even, { ...base, wastedBits: 3 });
  for (const partitionOrder of [0, 1, 3, 4])
    await decodesTo(t, signals(1, 640, 16), { ...base, blockSizes: [640], subframes: [smooth], partitionOrder });
  await decodesTo(t, signals(1, 768, 16), { ...base, rice: "escape", partitionOrder: 2 });
  await decodesTo(t, [Array<number>(64).fill(0)], { ...base, rice: "escape", subframes: [{ kind: "fixed", order: 0 }] });
  await decodesTo(t, signals(1, 4000, 16), { ...base, blockSizes: [16], subframes: [{ kind: "verbatim" }] }); // frame numbers of two bytes
  await decodesTo(t, signals(1, 400, 16), { ...base, totalSamples: 0, digest: false, padding: 99 });
});

test("a file by another encoder, also behind an ID3 tag", async (t) => {
  const file = audioFixtureBytes("two_tones.flac");
  const { samples } = await decodeAudio(file, { targetRate: 48000 });
  t.is(samples.length, 33600);
  t.true(signalToNoise(samples, twoTones(48000, 33600)) > 85);
  const tag = Buffer.concat([Buffer.from("ID3\x04\0\0\0\0\x01\x05"), Buffer.alloc(133)]);
  t.deepEqual((await decodeAudio(Buffer.concat([tag, file]), { targetRate: 48000 })).samples, samples);
});

test("damage anywhere is found", async (t) => {
  const file = flacFile(signals(2, 800, 16), base);
  for (let at = 46; at < file.length; at += 31) {
    const damaged = Buffer.from(file);
    damaged[at] = (damaged[at] as number) ^ 0x10;
    await t.throwsAsync(decodeAudio(damaged), { code: "BAD_AUDIO" }, `byte ${at}`);
  }
  const otherDigest = Buffer.from(file);
  otherDigest[30] = (otherDigest[30] as number) ^ 1;
  await t.throwsAsync(decodeAudio(otherDigest), { code: "BAD_AUDIO", message: /MD5/ });
});

test("truncation and false totals are coded errors", async (t) => {
  const file = flacFile(signals(1, 1000, 16), { ...base, subframes: [{ kind: "verbatim" }] });
  const cut = file.subarray(0, file.length - 300);
  await t.throwsAsync(decodeAudio(cut), { code: "BAD_AUDIO", message: /768 samples \(0\.05 s\) of 1000 were found/ });
  t.is((await decodeAudio(cut, { allowTruncated: true })).samples.length, 768);
  await t.throwsAsync(decodeAudio(file.subarray(0, 30)), { code: "BAD_AUDIO", message: /0 samples were found/ });
  const long = flacFile(signals(1, 500, 16), { ...base, totalSamples: 400 });
  await t.throwsAsync(decodeAudio(long), { code: "BAD_AUDIO", message: /more samples than the 400/ });
  const huge = flacFile(signals(1, 500, 16), { ...base, totalSamples: 2 ** 36 - 1 });
  await t.throwsAsync(decodeAudio(huge), { code: "AUDIO_TOO_LONG" });
  await t.throwsAsync(decodeAudio(huge, { maximumSeconds: 1e9 }), { code: "BAD_AUDIO", message: /500 samples/ });
});

test("a small file that unpacks to hours is stopped at the limit", async (t) => {
  const silence = [Array<number>(65535).fill(0)];
  const options: FlacOptions = { ...base, blockSizes: [65535], subframes: [{ kind: "constant" }], digest: false, totalSamples: 0 };
  const file = flacFile(silence, options);
  const frame = file.subarray(46);
  const bomb = Buffer.concat([file, ...Array<Buffer>(20_000).fill(frame)]); // 23 hours in 320 kB
  await t.throwsAsync(decodeAudio(bomb, { maximumSeconds: 60 }), { code: "AUDIO_TOO_LONG" });
});

(shared ? test : test.skip)("real files agree with ffmpeg bit by bit", async (t) => {
  const folder = join(shared as string, "reference", "audio");
  for (const name of readdirSync(folder)) {
    let wanted: Buffer;
    try {
      wanted = execFileSync("ffmpeg", ["-v", "error", "-i", join(folder, name), "-f", "f32le", "-"], { maxBuffer: 1 << 28 });
    } catch {
      return t.pass("ffmpeg is not installed");
    }
    const { samples } = await decodeAudio(join(folder, name));
    t.true(Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength).equals(wanted), name);
  }
});
