/** Models that hear another rate than 16 kHz. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { evaluate, loadModel, readManifest, Recognizer, Transcriber } from "../lib/index.js";
import { writeFamilyModel } from "./family_models.js";
import { asDecoded, wav } from "./serving.js";
import { editJson, temporaryFolder, tones } from "./tiny_model.js";

const folder = temporaryFolder("sampling-rates");
test.after.always(folder.clean);

test("files, samples, live speech and evaluation are heard at the rate of the model", async (t) => {
  const model = writeFamilyModel(folder.path, "wav2vec2");
  editJson(join(model, "preprocessor_config.json"), (json) => void (json["sampling_rate"] = 8000));
  const samples = tones(1.5, 1);
  const path = join(folder.path, "speech.wav");
  writeFileSync(path, wav(samples));
  await using transcriber = await Transcriber.load({ model });
  const { text, duration } = await transcriber.transcribe(path);
  t.is(duration, 1.5);
  t.true(text.length > 0);
  const ofSamples = await transcriber.transcribe(asDecoded(samples));
  t.deepEqual([ofSamples.text, ofSamples.duration], [text, 1.5]);
  let last: { text: string; transcript?: { duration: number } } | undefined;
  const blocks = [0, 7000, 7003].map((begin, i, all) => asDecoded(samples).subarray(begin, all[i + 1]));
  for await (const update of transcriber.stream(blocks)) last = update;
  t.deepEqual([last?.text, last?.transcript?.duration], [text, 1.5]);

  const manifest = join(folder.path, "m.jsonl");
  writeFileSync(manifest, JSON.stringify({ audio_filepath: path, duration: 1.5, text: "HI" }));
  const { audioSeconds, transcripts } = await evaluate(new Recognizer(loadModel(model)), readManifest(manifest));
  t.deepEqual([audioSeconds, transcripts[0]?.hypothesis], [1.5, text]);
});
