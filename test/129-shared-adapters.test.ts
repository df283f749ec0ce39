import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { AdapterBase, adaptSpeakers, loadModel, readAdapter, readManifest } from "../lib/index.js";
import { usmLite, usmLiteHere } from "./command_line.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("shared-adapters");
test.after.always(folder.clean);
const model = writeTinyModel(join(folder.path, "model"));
const manifest = writeTinyCorpus(join(folder.path, "corpus"), 6);
const utterances = readManifest(manifest).map((utterance, index) => ({ ...utterance, speaker: `speaker-${index % 3}` }));

test("an adapter that speakers share is learned from some of them, and judged by the others", async (t) => {
  const loaded = loadModel(model);
  const settings = { rank: 3, epochs: 3, learningRate: 0.01, batchSeconds: 4, targets: ["*"] };
  const said: string[] = [];
  const { adapter, report } = await adaptSpeakers(loaded, utterances, { ...settings, onStatus: (sentence) => said.push(sentence) });
  t.like(report, { speakers: 3, heldOutSpeakers: 1, utterances: 6, heldOutUtterances: 2, kept: "shared" });
  t.true(report.adapted.loss < report.base.loss && report.adapted.wer <= report.base.wer, JSON.stringify(report));
  t.deepEqual([...adapter.factors.keys()], [...new AdapterBase(loaded).layers.keys()]);
  t.regex(said.join("\n"), /speech of 3 speakers[^]*epoch 1: .*held-out speakers/);
  const again = await adaptSpeakers(loadModel(model), utterances, settings);
  for (const [name, { up }] of adapter.factors) t.deepEqual(again.adapter.factors.get(name)?.up.toArray(), up.toArray(), name);
  const short = await adaptSpeakers(loaded, utterances, { ...settings, epochs: 1, minutesPerSpeaker: 2 / 60 });
  t.is(short.report.utterances, 3, "one utterance of each speaker, however long");
  const judged = await adaptSpeakers(loaded, utterances, { ...settings, epochs: 1, heldOut: utterances.slice(0, 1) });
  t.like(
    judged.report,
    { speakers: 3, heldOutSpeakers: 1, utterances: 5, heldOutUtterances: 1 },
    "nothing else of that speaker is learned from",
  );
  const useless = await adaptSpeakers(loaded, utterances, { ...settings, epochs: 1, learningRate: 100 });
  t.is(useless.report.kept, "base");
  t.true([...useless.adapter.factors.values()].every(({ up }) => up.toArray().every((value) => value === 0)));
  await t.throwsAsync(adaptSpeakers(loaded, readManifest(manifest)), {
    code: "INVALID_ARGUMENT",
    message: /manifest\.jsonl:1: has no speaker/,
  });
  await t.throwsAsync(
    adaptSpeakers(
      loaded,
      utterances.map((one) => ({ ...one, speaker: "a" })),
    ),
    { code: "INVALID_ARGUMENT", message: /more speakers/ },
  );
});

test("the command learns one adapter on top of another, and others use it", async (t) => {
  const shared = join(folder.path, "corpus", "shared.jsonl");
  writeFileSync(
    shared,
    readFileSync(manifest, "utf8")
      .split("\n")
      .map((line, index) => JSON.stringify({ ...(JSON.parse(line) as object), speaker: index % 2 }))
      .join("\n"),
  );
  const out = (name: string): string => join(folder.path, name);
  const fast = ["--model", model, "--rank", "2", "--epochs", "1", "--learning-rate", "0.01"];
  const first = await usmLiteHere("adapt", ...fast, "--speakers", "--data", shared, "--out", out("shared"), "--json");
  t.is(first.status, 0, first.stderr);
  t.is((JSON.parse(first.stdout) as { speakers: number }).speakers, 2);
  const second = await usmLiteHere(
    "adapt",
    ...fast,
    "--shared",
    out("shared"),
    "--data",
    manifest,
    "--out",
    out("both"),
    "--target",
    "*.q_proj",
  );
  t.is(second.status, 0, second.stderr);
  t.regex(second.stdout, /^kept [^]*loss \d\.\d+ to \d\.\d+, WER .*\nlearned for .* s of speech\n$/);
  t.deepEqual(readdirSync(out("both")).sort(), ["adapter_config.json", "adapter_model.safetensors"]);
  using adapter = readAdapter(out("both"), new AdapterBase(loadModel(model)));
  t.true(adapter.parameters > 0);
  const text = await usmLite("transcribe", "--model", model, "--adapter", out("both"), join(folder.path, "corpus", "clip0.wav"));
  t.is(text.status, 0, text.stderr);
  const both = await usmLiteHere("adapt", ...fast, "--speakers", "--unsupervised", "--data", shared, "--out", out("none"));
  t.is(both.status, 2);
  t.regex(both.stderr, /do not go with --speakers/);
  t.false(existsSync(out("none")));
});
