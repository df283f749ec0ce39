import { execFileSync, spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { decodeAudio, readAudio } from "../lib/operations.js";
import { audioFixture, audioFixtureBytes, signalToNoise, sine } from "./audio_signals.js";
import { sharedFolder } from "./shared.js";
import { wavFile } from "./wav_writer.js";

const shared = sharedFolder();
const hasFfmpeg = spawnSync("ffmpeg", ["-version"]).status === 0;
const folder = mkdtempSync(join(tmpdir(), "usm-lite-audio-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));

const fixtures = [
  ["tone_22050.ogg", 22050],
  ["tone_44100.mp3", 44100],
  ["tone_16000.mp3", 16000],
] as const;

test("Vorbis and MP3 have exactly the samples that were encoded", async (t) => {
  for (const [name, sampleRate] of fixtures) {
    const { samples } = await decodeAudio(audioFixture(name), { targetRate: sampleRate });
    t.is(samples.length, Math.round(sampleRate * 0.7), name);
    const edge = Math.round(sampleRate * 0.05);
    const quality = signalToNoise(samples, sine(440, sampleRate, samples.length, 0.5), edge, samples.length - edge);
    t.true(quality > 25, `${name}: ${quality.toFixed(1)} dB`);
    t.is((await decodeAudio(audioFixture(name))).samples.length, 11200);
  }
});

test("truncated Vorbis and MP3 are coded errors, or taken as they are", async (t) => {
  for (const [name] of fixtures) {
    const bytes = audioFixtureBytes(name);
    const cut = bytes.subarray(0, bytes.length - 400);
    await t.throwsAsync(decodeAudio(cut), { code: "BAD_AUDIO", message: /ends too early: \d+ samples/ }, name);
    if (name.endsWith("mp3")) {
      const { samples } = await decodeAudio(cut, { allowTruncated: true });
      t.true(samples.length > 8000 && samples.length < 11200, name);
    }
  }
});

test("MP3 between tags and padding, and with a limit", async (t) => {
  const bytes = audioFixtureBytes("tone_16000.mp3");
  const { samples } = await decodeAudio(bytes);
  const tag = Buffer.concat([Buffer.from("ID3\x03\0\0\0\0\x02\x00"), Buffer.alloc(256, 0xff)]);
  const end = Buffer.concat([Buffer.from("TAG"), Buffer.alloc(125, 0x20)]);
  t.deepEqual((await decodeAudio(Buffer.concat([tag, bytes, end]))).samples, samples);
  t.deepEqual((await decodeAudio(Buffer.concat([bytes, Buffer.alloc(1000)]))).samples, samples);
  await t.throwsAsync(decodeAudio(Buffer.concat([bytes.subarray(0, 2000), Buffer.alloc(999, 7), bytes.subarray(2000)])), {
    code: "BAD_AUDIO",
  });
  await t.throwsAsync(decodeAudio(bytes, { maximumSeconds: 0.2 }), { code: "AUDIO_TOO_LONG" });
});

test("what is no audio is a coded error that says what would be", async (t) => {
  const text = join(folder, "notes.mp3");
  writeFileSync(text, "this is not audio\n".repeat(50));
  await t.throwsAsync(decodeAudio(text), { code: "BAD_AUDIO", message: /notes\.mp3: is not audio in a format known here/ });
  await t.throwsAsync(decodeAudio(Uint8Array.of(1, 2, 3)), { code: "BAD_AUDIO" });
  await t.throwsAsync(decodeAudio("/dev/null"), { code: "BAD_AUDIO", message: /empty/ });
});

(hasFfmpeg ? test : test.skip)("other formats go through ffmpeg, from a file or from memory", async (t) => {
  for (const input of [audioFixture("tone.m4a"), audioFixtureBytes("tone.m4a")]) {
    const { samples } = await decodeAudio(input);
    t.true(Math.abs(samples.length - 11200) <= 1024);
    t.true(signalToNoise(samples, sine(440, 16000, samples.length, 0.5), 1000, 10000) > 25);
  }
  const bytes = audioFixtureBytes("tone.m4a");
  await t.throwsAsync(decodeAudio(bytes.subarray(0, 2000)), { code: "BAD_AUDIO", message: /ffmpeg cannot decode it: / });
  for await (const piece of readAudio(bytes)) {
    t.true(piece.length > 0);
    break; // ends the program
  }
});

(hasFfmpeg ? test : test.skip)("a WAV file of a coding that is not known here goes through ffmpeg", async (t) => {
  const adpcm = join(folder, "adpcm.wav");
  writeFileSync(join(folder, "source.wav"), wavFile([sine(440, 16000, 11200, 0.5)], { sampleRate: 16000, coding: "s16" }));
  execFileSync("ffmpeg", ["-v", "error", "-i", join(folder, "source.wav"), "-c:a", "adpcm_ms", adpcm]);
  const { samples } = await decodeAudio(adpcm);
  t.true(signalToNoise(samples, sine(440, 16000, samples.length, 0.5), 100, 11000) > 20);
});

(hasFfmpeg ? test : test.skip)("a playlist cannot make ffmpeg open another file", async (t) => {
  const segment = join(folder, "segment.mp3");
  writeFileSync(segment, audioFixtureBytes("tone_16000.mp3"));
  const playlist = `#EXTM3U\n#EXT-X-TARGETDURATION:10\n#EXTINF:9.9,\n${segment}\n#EXT-X-ENDLIST\n`;
  await t.throwsAsync(decodeAudio(Buffer.from(playlist)), { code: "BAD_AUDIO" });
  await t.throwsAsync(decodeAudio(Buffer.from("ffconcat version 1.0\nfile segment.mp3\n")), { code: "BAD_AUDIO" });
});

test.serial("without ffmpeg the error says that it would help", async (t) => {
  const path = process.env["PATH"];
  process.env["PATH"] = folder;
  try {
    await t.throwsAsync(decodeAudio(audioFixture("tone.m4a")), {
      code: "BAD_AUDIO",
      message: /others through ffmpeg, which cannot be started/,
    });
  } finally {
    process.env["PATH"] = path;
  }
});

(shared && hasFfmpeg ? test : test.skip)("real Opus recordings agree with ffmpeg's libopus bit by bit", async (t) => {
  const speech = join(shared as string, "speech", "an4-nemo", "test");
  for (const name of readdirSync(speech).slice(0, 3)) {
    const wanted = execFileSync("ffmpeg", ["-v", "error", "-c:a", "libopus", "-i", join(speech, name), "-f", "f32le", "-"], {
      maxBuffer: 1 << 28,
    });
    const { samples } = await decodeAudio(readFileSync(join(speech, name)), { targetRate: 48000 });
    t.true(Buffer.from(samples.buffer, samples.byteOffset, samples.byteLength).equals(wanted), name);
  }
});
