import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { decodeAudio, readAudio } from "../lib/operations.js";
import { audioFixture, audioFixtureBytes, signalToNoise, twoTones } from "./audio_signals.js";
import { sharedFolder } from "./shared.js";

const shared = sharedFolder();
const folder = mkdtempSync(join(tmpdir(), "usm-lite-opus-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

test("Ogg-Opus is decoded at any rate, without pre-skip and padding", async (t) => {
  for (const targetRate of [16000, 48000, 22050]) {
    const audio = await decodeAudio(audioFixture("two_tones.opus"), { targetRate });
    t.is(audio.samples.length, Math.round(0.7 * targetRate));
    t.is(audio.sampleRate, targetRate);
    t.is(audio.durationSeconds, 0.7);
    // The codec is lossy, and at 16 kHz its delay is 0.04 ms longer.
    const edge = Math.round(targetRate * 0.05);
    const quality = signalToNoise(audio.samples, twoTones(targetRate, audio.samples.length), edge, audio.samples.length - edge);
    t.true(quality > 12, `${targetRate} Hz: ${quality.toFixed(1)} dB`);
  }
});

test("bytes and a file of any name give the same", async (t) => {
  const bytes = audioFixtureBytes("two_tones.opus");
  const path = join(folder, "speech.txt");
  writeFileSync(path, bytes);
  t.deepEqual(await decodeAudio(bytes), await decodeAudio(path));
});

test("a chain of two streams is one recording", async (t) => {
  const bytes = audioFixtureBytes("two_tones.opus");
  const once = (await decodeAudio(bytes)).samples;
  const twice = (await decodeAudio(Buffer.concat([bytes, bytes]))).samples;
  t.deepEqual(twice.subarray(0, once.length), once);
  t.deepEqual(twice.subarray(once.length), once);
});

test("truncated, damaged and patched files are coded errors that name the file", async (t) => {
  const bytes = audioFixtureBytes("two_tones.opus");
  const fails = (input: Uint8Array, message: RegExp) => t.throwsAsync(decodeAudio(input), { code: "BAD_AUDIO", message });
  await fails(bytes.subarray(0, 5000), /ends too early: \d+ samples .* were found/);
  await fails(bytes.subarray(0, 100), /ends too early: 0 samples/);
  const damaged = Uint8Array.from(bytes);
  damaged[6000] = (damaged[6000] as number) ^ 1;
  await fails(damaged, /checksum/);
  const path = join(folder, "cut.opus");
  writeFileSync(path, bytes.subarray(0, bytes.length - 10));
  await t.throwsAsync(decodeAudio(path), { code: "BAD_AUDIO", message: new RegExp(`^${path}: `) });
});

/** Computes the checksum of an Ogg page again. */
function withChecksum(page: Uint8Array): void {
  page.fill(0, 22, 26);
  const checksum = page.reduce((sum, byte) => {
    let next = sum ^ (byte << 24);
    for (let bit = 0; bit < 8; bit++) next = (next << 1) ^ (next < 0 ? 0x04c11db7 : 0);
    return next;
  }, 0);
  new DataView(page.buffer, page.byteOffset).setInt32(22, checksum, true);
}

test.serial("packets that no encoder makes are a coded error, and the decoder prints nothing", async (t) => {
  const bytes = Buffer.from(audioFixtureBytes("two_tones.opus"));
  const page = bytes.subarray(bytes.lastIndexOf("OggS", bytes.length - 5));
  const packet = 27 + (page[26] as number);
  page[packet] = ((page[packet] as number) & ~3) | 3; // as many frames as the next byte says
  page[packet + 1] = 0x82; // two, of lengths of their own, the first beyond the packet
  page.fill(0xff, packet + 2, packet + 4);
  withChecksum(page);
  const printed: unknown[] = [];
  const { error } = console;
  console.error = (...words: unknown[]) => printed.push(words);
  await t
    .throwsAsync(decodeAudio(bytes), { code: "BAD_AUDIO", message: /Opus packet near .* is damaged \(libopus -4 / })
    .finally(() => (console.error = error));
  t.deepEqual(printed, []);
});

test("a chain of very many streams is refused, and decoding ends when it is aborted", async (t) => {
  const bytes = Buffer.from(audioFixtureBytes("two_tones.opus"));
  const second = bytes.indexOf("OggS", 4);
  const head = bytes.subarray(0, second);
  head[5] = 2 | 4; // the first page and the last
  withChecksum(head);
  const chain = Buffer.concat(Array.from({ length: 257 }, () => head));
  await t.throwsAsync(decodeAudio(chain), { code: "BAD_AUDIO", message: /more than 256 Ogg streams/ });
  const controller = new AbortController();
  const reading = readAudio(bytes.fill(audioFixtureBytes("two_tones.opus")), { signal: controller.signal });
  await reading.next(); // all of it was read at once
  controller.abort();
  await t.throwsAsync(reading.next(), { code: "ABORTED" });
});

test("what was captured from a stream that ran for hours is as long as what was captured", async (t) => {
  const hours = 5;
  const whole = await decodeAudio(audioFixture("two_tones.opus"), { maximumSeconds: 60 });
  const bytes = Buffer.from(audioFixtureBytes("two_tones.opus"));
  for (const page of oggPagesOf(bytes)) {
    const granule = page.readBigInt64LE(6);
    if (granule > 0n) page.writeBigInt64LE(granule + BigInt(hours * 3600 * 48000), 6);
    page.writeUInt32LE(oggChecksum(page), 22);
  }
  const { durationSeconds, samples } = await decodeAudio(bytes, { maximumSeconds: 60 });
  // The samples that a decoder needs before it is exact, the pre-skip, are dropped in both.
  t.true(Math.abs(durationSeconds - whole.durationSeconds) < 0.02, String(durationSeconds));
  t.deepEqual(samples.subarray(0, 8000), whole.samples.subarray(0, 8000));
});

test("limits are kept before anything is decoded", async (t) => {
  const path = audioFixture("two_tones.opus");
  await t.throwsAsync(decodeAudio(path, { maximumSeconds: 0.1 }), { code: "AUDIO_TOO_LONG", message: /two_tones\.opus holds 0\.7 s/ });
  await t.throwsAsync(decodeAudio(path, { targetRate: 0 }), { code: "INVALID_ARGUMENT" });
  await t.throwsAsync(decodeAudio(path, { maximumSeconds: -1 }), { code: "INVALID_ARGUMENT" });
  await t.throwsAsync(decodeAudio(path, { signal: AbortSignal.abort() }), { code: "ABORTED" });
  await t.throwsAsync(decodeAudio(join(folder, "absent.opus")), { code: "FILE_NOT_FOUND", message: /absent\.opus/ });
  await t.throwsAsync(decodeAudio(folder), { code: "FILE_UNREADABLE", message: /folder/ });
});

test("reading in pieces gives the same samples", async (t) => {
  const path = audioFixture("two_tones.opus");
  const pieces: number[] = [];
  for await (const piece of readAudio(path, { targetRate: 22050 })) pieces.push(...piece);
  t.deepEqual(Float32Array.from(pieces), (await decodeAudio(path, { targetRate: 22050 })).samples);
});

(shared ? test : test.skip)("real recordings have the length their manifest says", async (t) => {
  const speech = join(shared as string, "speech");
  const lines = readFileSync(join(speech, "test.jsonl"), "utf8")
    .trim()
    .split("\n")
    .filter((_, index) => index % 250 === 0);
  for (const line of lines) {
    const { audio_filepath: path, duration } = JSON.parse(line) as { audio_filepath: string; duration: number };
    const audio = await decodeAudio(join(speech, path));
    t.true(Math.abs(audio.durationSeconds - duration) < 0.002, `${path}: ${audio.durationSeconds} s, not ${duration}`);
  }
});

/** The pages of an Ogg file, in place. */
function oggPagesOf(bytes: Buffer): Buffer[] {
  const pages: Buffer[] = [];
  for (let at = 0; at < bytes.length;) {
    const segments = bytes.subarray(at + 27, at + 27 + (bytes[at + 26] as number));
    const page = bytes.subarray(at, at + 27 + segments.length + segments.reduce((sum, length) => sum + length, 0));
    pages.push(page);
    at += page.length;
  }
  return pages;
}

/** RFC 3533: polynomial 0x04c11db7, not reflected; the field itself counts as zero. */
function oggChecksum(page: Uint8Array): number {
  let remainder = 0;
  page.forEach((byte, index) => {
    remainder ^= (index >= 22 && index < 26 ? 0 : byte) << 24;
    for (let bit = 0; bit < 8; bit++) remainder = (remainder << 1) ^ (remainder < 0 ? 0x04c11db7 : 0);
  });
  return remainder >>> 0;
}
