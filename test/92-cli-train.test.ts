import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { loadModel, readTrainingConfig, Recognizer, trainFloatModel, UsmLiteError } from "../lib/index.js";
import { usmLite, usmLiteHere } from "./command_line.js";
import { temporaryFolder, tinyEncoder, tones, writeTinyCorpus } from "./tiny_model.js";

const folder = temporaryFolder("cli-train");
test.after.always(folder.clean);
writeTinyCorpus(join(folder.path, "corpus"), 6);

const config = (name: string, settings: Readonly<Record<string, unknown>>): string => {
  const path = join(folder.path, name);
  const whole = {
    model: tinyEncoder,
    data: { train: ["corpus/manifest.jsonl"], features: "features", speeds: [1], batchSeconds: 5 },
    optimizer: { warmUpSteps: 1, decay: "none" },
    averageDecay: 0.5,
    epochs: 2,
    ...settings,
  };
  writeFileSync(path, JSON.stringify(whole)); // JSON is YAML
  return path;
};
const train = (path: string, out: string, ...more: string[]) =>
  usmLite("train", "--config", path, "--out", join(folder.path, out), ...more);
const trainHere = (path: string, out: string, ...more: string[]) =>
  usmLiteHere("train", "--config", path, "--out", join(folder.path, out), ...more);
const bytes = (...names: string[]): Buffer => readFileSync(join(folder.path, ...names));
const steps = (out: string): number[] =>
  bytes(out, "metrics.jsonl")
    .toString()
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { step: number }).step);

test.serial("a float model is trained, and a resumed run gives the same bits", async (t) => {
  const straight = await train(config("two.yaml", {}), "straight");
  t.is(straight.status, 0, straight.stderr);
  t.is(straight.stdout, "");
  t.regex(straight.stderr, /computing features of 6 utterances at 1 speeds\n.*done after \d+ steps\n$/s);
  const count = Number(/done after (\d+) steps/.exec(straight.stderr)?.[1]);
  t.deepEqual(
    steps("straight"),
    Array.from({ length: count }, (_, i) => i + 1),
  );

  const model = loadModel(join(folder.path, "straight", "model"));
  t.is((model.network as LasrForCtc).config.encoder_config.hidden_size, 32);
  t.truthy(model.languageModel);
  t.is(new Recognizer(model).transcribe(tones(1, 1)).duration, 1);

  t.is((await trainHere(config("one.yaml", { epochs: 1 }), "resumed")).status, 0);
  t.true(steps("resumed").length < count);
  const refused = await trainHere(config("two.yaml", {}), "resumed");
  t.is(refused.status, 2);
  t.regex(refused.stderr, /resumed holds checkpoints of a run; continue it with --resume or name another folder.*\[INVALID_ARGUMENT\]/);
  const speech = bytes("corpus", "manifest.jsonl");
  writeFileSync(join(folder.path, "corpus", "manifest.jsonl"), `${String(speech)}\n${String(speech)}`);
  const changed = await train(config("two.yaml", {}), "resumed", "--resume");
  writeFileSync(join(folder.path, "corpus", "manifest.jsonl"), speech);
  t.is(changed.status, 1);
  t.regex(
    changed.stderr,
    /^usm-lite: .*step-\d+\.safetensors was trained on the speech of .*manifest\.jsonl, which holds something else by now; put back .*\[BAD_CHECKPOINT\]\n$/,
    "nothing else was begun",
  );
  const resumed = await train(config("two.yaml", {}), "resumed", "--resume");
  t.is(resumed.status, 0, resumed.stderr);
  t.regex(resumed.stderr, /continuing from step \d+ of \d+/);
  t.deepEqual(steps("resumed"), steps("straight"));
  t.deepEqual(bytes("resumed", "model", "model.safetensors"), bytes("straight", "model", "model.safetensors"));
  t.deepEqual(
    readdirSync(join(folder.path, "resumed")).filter((name) => name.startsWith(".")),
    [],
  );

  const other = await trainHere(config("wide.yaml", { model: { ...tinyEncoder, hidden_size: 64 } }), "resumed", "--resume");
  t.is(other.status, 1);
  t.regex(other.stderr, /step-\d+\.safetensors: tensor .* has shape .* but this run needs .*\[BAD_CHECKPOINT\]/);
});

test.serial("what is wrong in a configuration is named with file and key, and nothing is trained", async (t) => {
  const cases: [Readonly<Record<string, unknown>> | string, RegExp][] = [
    [{ epochs: 0 }, /bad\.yaml:1: key "epochs": .*\[BAD_CONFIG\]/],
    [{ epoch: 2 }, /bad\.yaml:1: Unrecognized key: "epoch"; docs\/training\.md lists the keys \[BAD_CONFIG\]/],
    [{ model: { ...tinyEncoder, hidden_sise: 32 } }, /key "model": Unrecognized key: "hidden_sise"/],
    [{ model: { ...tinyEncoder, hidden_size: "wide" } }, /key "model\.hidden_size": .*expected number/],
    [{ model: { ...tinyEncoder, num_attention_heads: 5 } }, /hidden_size" must be divisible by num_attention_heads.*\[BAD_CONFIG\]/],
    [{ data: { train: [] } }, /key "data\.train"/],
    [{ data: { train: ["corpus/manifest.jsonl"], speeds: [3] } }, /key "data\.speeds\.0"/],
    [{ data: { train: ["none.jsonl"] } }, /none\.jsonl does not exist.*\[FILE_NOT_FOUND\]/],
    [{ optimizer: { decay: "slowly" } }, /key "optimizer\.decay": .*"cosine"\|"inverse-square-root"\|"none"/],
    [{ vocabularySize: 10 }, /vocabulary size must be a whole number from 31.*\[INVALID_ARGUMENT\]/],
    [{ averageDecay: 1 }, /key "averageDecay"/],
    [{ languageModelOrder: 9 }, /key "languageModelOrder"/],
    [
      { intermediateLoss: { layer: 9, weight: 0.5 } },
      /bad\.yaml:1: key "intermediateLoss\.layer": must be below num_hidden_layers of the model, \d/,
    ],
    [{ model: { ...tinyEncoder, num_mel_bins: 100_000 } }, /melBins is 100000; it must be between 1 and 4096 \[BAD_CONFIG\]/],
    [{ intermediateLoss: { layer: 1, weight: 0.5, pronunciations: "none.dict" } }, /none\.dict does not exist.*\[FILE_NOT_FOUND\]/],
    [{ intermediateLoss: { layer: 1, weight: 1 } }, /key "intermediateLoss\.weight"/],
    ["model: [", /bad\.yaml:1: is not valid YAML: [^\n]+ \[BAD_CONFIG\]$/],
  ];
  for (const [settings, message] of cases) {
    const path = typeof settings === "string" ? join(folder.path, "bad.yaml") : config("bad.yaml", settings);
    if (typeof settings === "string") writeFileSync(path, settings);
    const out = join(folder.path, "bad");
    const error = await t.throwsAsync(async () => trainFloatModel(readTrainingConfig(path), { out, resume: false }), {
      instanceOf: UsmLiteError,
    });
    t.regex(`${error?.message} [${error?.code}]`, message);
    t.false(existsSync(join(out, "checkpoints")));
  }
  const unknown = await trainHere(config("bad.yaml", { epoch: 2 }), "bad");
  t.is(unknown.status, 1);
  t.regex(unknown.stderr, /usm-lite: .*bad\.yaml:1: Unrecognized key: "epoch".*\[BAD_CONFIG\]\n$/);
  const missing = await trainHere(join(folder.path, "none.yaml"), "bad");
  t.is(missing.status, 1);
  t.regex(missing.stderr, /none\.yaml does not exist.*\[FILE_NOT_FOUND\]/);
});

test("the scripts of training/ import what lib exports", async (t) => {
  const root = join(dirname(fileURLToPath(import.meta.url)), "..", "..");
  for (const script of ["language_model.js", "sentences.js", "pytorch/data.js", "pytorch/synthetic_text.js", "pytorch/unpack.js"]) {
    const path = join(root, "training", script);
    for (const [, names = "", from = ""] of readFileSync(path, "utf8").matchAll(/^import \{(.*?)\} from "(\..*?)";$/gm)) {
      const exported = (await import(join(dirname(path), from))) as Readonly<Record<string, unknown>>;
      for (const name of names.split(",")) t.true(name.trim() in exported, `${script} imports ${name.trim()} from ${from}`);
    }
  }
});
