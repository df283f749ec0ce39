import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { ByteSource } from "../lib/audio/byte_source.js";
import { detectFormat } from "../lib/audio/container.js";
import { decodeAudio, UsmLiteError } from "../lib/operations.js";
import { audioFixtureBytes } from "./audio_signals.js";
import { flacFile } from "./flac_encoder.js";
import { randomValues } from "./gradient.js";
import { temporaryFolder } from "./tiny_model.js";
import { wavFile } from "./wav_writer.js";

process.env["PATH"] = ""; // what no longer looks like its format would only test ffmpeg

// Whatever is done to a file, it decodes to finite samples or fails with a coded error; nothing crashes or hangs.
const wave = (scale: number): number[] => Array.from({ length: 600 }, (_, i) => Math.round(scale * Math.sin(i / 9)));
const originals: Record<string, Uint8Array> = {
  wav: wavFile([randomValues(200, 1), randomValues(200, 2)], { sampleRate: 16000, coding: "s24", extensible: true }),
  rf64: wavFile([randomValues(200, 1)], { sampleRate: 16000, coding: "f32", rf64: true, chunks: [["LIST", new Uint8Array(9)]] }),
  flac: flacFile([wave(20000), wave(19000)], {
    sampleRate: 16000,
    bits: 16,
    blockSizes: [256],
    subframes: [{ kind: "fixed", order: 2 }, { kind: "lpc", coefficients: [30, -15], shift: 4 }, { kind: "verbatim" }],
    stereo: "mid-side",
    rice: 7,
  }),
  opus: audioFixtureBytes("two_tones.opus"),
  vorbis: audioFixtureBytes("tone_22050.ogg"),
  mp3: audioFixtureBytes("tone_16000.mp3"),
};

for (const [format, original] of Object.entries(originals)) {
  test(`mutated ${format} files never do worse than a coded error`, async (t) => {
    const choices = randomValues(4000, 77).map((value) => (value + 1) / 2);
    let next = 0;
    const choose = (count: number): number => Math.floor((choices[next++ % choices.length] as number) * count);
    const runs = format === "wav" || format === "rf64" || format === "flac" ? 300 : 25;
    let failures = 0;
    for (let run = 0; run < runs; run++) {
      const bytes = Uint8Array.from(original);
      // Headers are where the danger lies.
      const range = choose(3) > 0 ? Math.min(120, bytes.length) : bytes.length;
      for (let change = choose(4); change >= 0; change--) {
        const at = choose(range);
        bytes[at] = choose(2) > 0 ? (bytes[at] as number) ^ (1 << choose(8)) : choose(256);
      }
      const input = choose(4) > 0 ? bytes : bytes.subarray(0, choose(bytes.length));
      try {
        const { samples } = await decodeAudio(input, { maximumSeconds: 600, allowTruncated: choose(2) > 0 });
        t.true(samples.every(Number.isFinite));
      } catch (error) {
        failures++;
        const isCoded = error instanceof UsmLiteError && ["BAD_AUDIO", "AUDIO_TOO_LONG"].includes(error.code);
        t.true(isCoded, `run ${run}: ${String((error as Error).stack)}`);
      }
    }
    t.true(failures > 0);
  });
}

const folder = temporaryFolder("bytes");
test.after.always(folder.clean);

test("bytes are given out in order, however far was looked ahead, and stay what they are", async (t) => {
  const content = Uint8Array.from(randomValues(5000, 3), (value) => Math.floor(128 * (value + 1)));
  const path = join(folder.path, "content");
  writeFileSync(path, content);
  const pieces = (async function* () {
    for (let begin = 0; begin < content.length; begin += 93) yield await Promise.resolve(content.subarray(begin, begin + 93));
  })();
  for (const source of [
    await ByteSource.open(path, undefined, 64),
    await ByteSource.open(content),
    ByteSource.fromStream("pieces", pieces),
  ]) {
    const lengths = randomValues(400, 5).map((value) => Math.floor(40 * (value + 1)));
    const given: [begin: number, bytes: Uint8Array][] = [];
    for (let step = 0; source.position < content.length; step++) {
      const length = (lengths[step % 400] as number) * (step % 17 === 0 ? 12 : 1);
      const begin = source.position;
      const bytes = step % 3 === 0 ? await source.peek(length) : step % 31 === 0 ? await source.takeBlock() : await source.take(length);
      given.push([begin, bytes]);
      if (source.size !== undefined) given.push([begin + 700, (await source.bytesAt(begin + 700, 9)) as Uint8Array]);
    }
    for (const [begin, bytes] of given) t.deepEqual(bytes, content.slice(begin, begin + bytes.length));
    t.is((await source.take(5)).length, 0);
    await source.close();
  }
});

test("what follows a tag tells the format, however long the tag says it is", async (t) => {
  const tagged = (tag: number, behind: string): Uint8Array => {
    const bytes = new Uint8Array(10 + tag + behind.length);
    bytes.set([0x49, 0x44, 0x33, 4, 0, 0, (tag >> 21) & 127, (tag >> 14) & 127, (tag >> 7) & 127, tag & 127]);
    bytes.set(Buffer.from(behind), 10 + tag);
    return bytes;
  };
  for (const [behind, format] of [
    ["fLaC", "flac"],
    ["ABCD", "mp3"],
  ] as const) {
    await using source = await ByteSource.open(tagged(600_000, behind));
    t.is(await detectFormat(source), format);
  }
  const cut = tagged(100, "").subarray(0, 60);
  cut.set([127, 127, 127, 127], 6);
  await using source = await ByteSource.open(cut);
  t.is(await detectFormat(source), "mp3");
  await t.throwsAsync(decodeAudio(cut), { code: "BAD_AUDIO", message: /no MP3 frames/ });
});
