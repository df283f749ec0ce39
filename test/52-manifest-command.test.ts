import { mkdirSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { readCorpus, readManifest, writeManifest } from "../lib/index.js";
import { usmLiteHere } from "./command_line.js";
import { writeLibrispeech, writeSpeechocean } from "./corpora.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("manifests");
test.after.always(folder.clean);
const librispeech = writeLibrispeech(folder.path);
const speechocean = writeSpeechocean(folder.path);

test("a written manifest reads back; audio below its folder is named relative to it", async (t) => {
  const utterances = await readCorpus("speechocean762", speechocean, { part: "train" });
  for (const [path, audioPath] of [
    [join(speechocean, "train.jsonl"), "WAVE/SPEAKER0001/000010011.WAV"],
    [join(folder.path, "train.jsonl"), "speechocean762/WAVE/SPEAKER0001/000010011.WAV"],
    [join(librispeech, "other.jsonl"), join(speechocean, "WAVE/SPEAKER0001/000010011.WAV")],
  ] as const) {
    writeManifest(path, utterances);
    t.deepEqual(JSON.parse(readFileSync(path, "utf8")), {
      audio_filepath: audioPath,
      duration: 1,
      text: "WE CALL IT BEAR",
      speaker: "speechocean762/0001",
      dataset: "speechocean762",
    });
    t.deepEqual(
      readManifest(path),
      utterances.map((utterance) => ({ ...utterance, source: `${path}:1` })),
    );
  }
});

test("usm-lite manifest writes the manifest whole or not at all", async (t) => {
  const outFolder = join(folder.path, "out");
  mkdirSync(outFolder);
  const out = join(outFolder, "train.jsonl");
  const manifest = (...options: string[]) => usmLiteHere("manifest", "--out", out, ...options);

  const missing = await manifest("--corpus", "speechocean762", speechocean);
  t.is(missing.status, 2);
  t.regex(missing.stderr, /^usm-lite: speechocean762 has an official split; choose part train or test \[INVALID_ARGUMENT\]\n$/);
  const bad = await manifest("--corpus", "ljspeech", speechocean);
  t.is(bad.status, 1);
  t.regex(bad.stderr, /^usm-lite: .*metadata\.csv: does not exist; .* \[BAD_CORPUS\]\n$/);
  t.deepEqual(readdirSync(outFolder), []);

  const done = await manifest("--corpus", "librispeech", "--part", "train", librispeech);
  t.deepEqual(done, { status: 0, stdout: `${out}: 3 utterances, 0.00 hours\n`, stderr: "" });
  t.is(readManifest(out).length, 3);
  t.deepEqual(readdirSync(outFolder), ["train.jsonl"]);
});
