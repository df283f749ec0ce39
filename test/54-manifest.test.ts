import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "ava";
import { readUtterance, readUtterances } from "../lib/data/utterance_audio.js";
import { readManifest, UsmLiteError, type Utterance } from "../lib/index.js";
import { sharedFolder } from "./shared.js";
import { wavFile } from "./wav_writer.js";

const folder = mkdtempSync(join(tmpdir(), "usm-lite-manifest-"));
test.after.always(() => rmSync(folder, { recursive: true, force: true }));
writeFileSync(join(folder, "a.wav"), "");

function manifest(...lines: string[]): string {
  const path = join(folder, "m.jsonl");
  writeFileSync(path, lines.join("\n"));
  return path;
}

const good = '{"audio_filepath": "a.wav", "duration": 1.5, "text": "HI"}';

test.serial("utterances come with absolute paths and their line", (t) => {
  const path = manifest(
    good,
    "",
    '{"audio_filepath": "./a.wav", "duration": 2, "text": "", "offset": 3.5, "speaker": 7, "dataset": "d", "lang": "en"}',
    "",
  );
  t.deepEqual(readManifest(path), [
    { audioPath: join(folder, "a.wav"), duration: 1.5, text: "HI", source: `${path}:1` },
    { audioPath: join(folder, "a.wav"), duration: 2, text: "", offset: 3.5, speaker: "7", dataset: "d", source: `${path}:3` },
  ]);
});

test.serial("a bad line is an error that names file, line and what would be right", (t) => {
  const cases: [string, RegExp][] = [
    ["audio.wav HELLO", /:2: is not JSON/],
    ["[1, 2]", /:2: is not a JSON object/],
    ["null", /:2: is not a JSON object/],
    ['{"duration": 1, "text": "A"}', /:2: key "audio_filepath"/],
    ['{"audio_filepath": "a.wav", "text": "A"}', /:2: key "duration"/],
    ['{"audio_filepath": "a.wav", "duration": -1, "text": "A"}', /:2: key "duration"/],
    ['{"audio_filepath": "a.wav", "duration": 1e999, "text": "A"}', /:2: key "duration"/],
    ['{"audio_filepath": "a.wav", "duration": 1}', /:2: key "text"/],
    ['{"audio_filepath": "a.wav", "duration": 1, "text": "A", "offset": "1"}', /:2: key "offset"/],
    ['{"audio_filepath": "missing.wav", "duration": 1, "text": "A"}', /:2: audio file .*missing.wav does not exist; .*relative to/],
  ];
  for (const [line, message] of cases) {
    const error = t.throws(() => readManifest(manifest(good, line, good)), { instanceOf: UsmLiteError, code: "BAD_MANIFEST", message });
    t.regex(error?.message ?? "", /m\.jsonl/);
  }
  t.throws(() => readManifest(manifest("", "")), { code: "BAD_MANIFEST", message: /no utterance/ });
  t.throws(() => readManifest(join(folder, "none.jsonl")), { code: "FILE_NOT_FOUND" });
});

const shared = sharedFolder();
(shared ? test : test.skip)("the training speech is read", (t) => {
  const utterances = readManifest(join(shared as string, "speech", "train.jsonl"));
  t.is(utterances.length, 6593);
  t.true(Math.abs(utterances.reduce((sum, { duration }) => sum + duration, 0) / 3600 - 5.6) < 0.1);
});

test.serial("of a longer recording, an utterance is the part that offset and duration name", async (t) => {
  const samples = Float32Array.from({ length: 32000 }, (_, i) => (i % 1000) / 1000 - 0.5);
  writeFileSync(join(folder, "long.wav"), wavFile([samples], { coding: "f32", sampleRate: 16000 }));
  const [whole, part, beyond, broken] = readManifest(
    manifest(
      '{"audio_filepath": "long.wav", "duration": 2, "text": "HI"}',
      '{"audio_filepath": "long.wav", "offset": 0.5, "duration": 0.25, "text": "HI"}',
      '{"audio_filepath": "long.wav", "offset": 1.5, "duration": 1, "text": "HI"}',
      good,
    ),
  ) as [Utterance, Utterance, Utterance, Utterance];
  t.deepEqual(await readUtterance(whole, 16_000), samples);
  t.deepEqual(await readUtterance(part, 16_000), samples.slice(8000, 12000));
  t.is((await readUtterance(whole, 8000)).length, 16_000);
  const several = await readUtterances([part, whole, { ...part, offset: 1.95, duration: 0.1 }, { ...part, offset: 0 }], 16_000);
  t.deepEqual(several, [samples.slice(8000, 12000), samples, samples.slice(31200), samples.slice(0, 4000)]);
  const parts = await readUtterances([{ ...part, offset: 1.95, duration: 0.1 }, part, { ...part, offset: 0 }], 16_000);
  t.deepEqual(parts, [samples.slice(31200), samples.slice(8000, 12000), samples.slice(0, 4000)]);
  t.true(parts.every((one) => one.buffer.byteLength <= 16_000)); // the rest of the file is not held
  await t.throwsAsync(readUtterance(beyond, 16_000), {
    code: "BAD_MANIFEST",
    message: /m\.jsonl:3: offset 1\.5 and duration 1 reach beyond the end of the audio, 2\.00 s/,
  });
  await t.throwsAsync(readUtterance({ ...part, duration: 1e12 }, 16_000), { code: "BAD_MANIFEST", message: /reach beyond the end/ });
  await t.throwsAsync(readUtterance(broken, 16_000), { code: "BAD_AUDIO", message: /m\.jsonl:4.*a\.wav/ });
});
