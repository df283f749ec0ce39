import test from "ava";
import { decodeAudio, UsmLiteError } from "../lib/index.js";
import { audioFixtureBytes } from "./audio_signals.js";
import { flacFile } from "./flac_encoder.js";
import { randomValues } from "./gradient.js";
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
