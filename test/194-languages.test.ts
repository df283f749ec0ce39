/** Models with weights and a vocabulary for each language (MMS). */
import { cpSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { readJsonFile, writeJsonFile, type JsonObject } from "../lib/checkpoint/json_file.js";
import { dryRun } from "../lib/compress/dry_run.js";
import {
  AdapterBase,
  compressModel,
  loadModel,
  measureModel,
  parseRecipe,
  readSafetensors,
  Recognizer,
  trainLanguageModel,
  Transcriber,
  writeLanguageModel,
  writeSafetensors,
  type SafetensorsEntry,
} from "../lib/index.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import { transcriptEncoder } from "../lib/models/transcript_encoder.js";
import { checkLanguage, languageName } from "../lib/serve/http/transcription_request.js";
import type { Tokenizer } from "../lib/text/tokenizer.js";
import { tuneLanguageModel } from "../lib/transcribe/language_model_tuning.js";
import { usmLite, usmLiteHere } from "./command_line.js";
import { roundToNearest } from "./recipes.js";
import { relativeError, throughFile } from "./reference.js";
import { temporaryFolder, tones, writeWav } from "./tiny_model.js";

const mms = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "models", "mms");
const folder = temporaryFolder("languages");
test.after.always(folder.clean);
const samples = tones(0.3, 1);
const clip = join(folder.path, "clip.wav");
writeWav(clip, samples);
const manifest = join(folder.path, "manifest.jsonl");
writeFileSync(manifest, `${JSON.stringify({ audio_filepath: "clip.wav", duration: 0.3, text: "éè ab" })}\n`);

let copies = 0;
/** A copy of the model; `change` gets its folder. */
function copyOf(change: (path: string) => void = () => {}): string {
  const path = join(folder.path, `model${copies++}`);
  cpSync(mms, path, { recursive: true });
  change(path);
  return path;
}

/** Another adapter: `change` gets its tensors. */
function withAdapter(change: (entries: Map<string, SafetensorsEntry>) => void): string {
  return copyOf((path) => {
    const adapter = join(path, "adapter.fra.safetensors");
    const entries = new Map<string, SafetensorsEntry>();
    {
      using file = readSafetensors(adapter);
      for (const name of file.names()) entries.set(name, file.tensor(name));
    }
    change(entries);
    writeSafetensors(adapter, [...entries]);
  });
}

const withJson = (file: string, change: (json: JsonObject) => JsonObject): string =>
  copyOf((path) => writeJsonFile(join(path, file), change(readJsonFile(join(path, file), "BAD_CONFIG"))));

/** Of the logits of a folder beside what transformers gives. */
function errorBeside(language: "eng" | "fra", path: string, options: { language?: string } = {}): number {
  const { network, frontEnd } = loadModel(path, options);
  using expected = readSafetensors(join(mms, language === "eng" ? "expected.safetensors" : `expected.${language}.safetensors`));
  const error = throughFile(paddedForward(network, expected, frontEnd.config), (ours) => {
    const [, frames = 0] = ours.shape("logits");
    return relativeError(ours.values("logits") as Float32Array, expected.values("logits") as Float32Array, frames, [frames]);
  });
  network.dispose();
  return error;
}

test("each language agrees with transformers", (t) => {
  t.true(errorBeside("eng", mms) < 1e-5);
  t.true(errorBeside("eng", mms, { language: "eng" }) < 1e-5);
  t.true(errorBeside("fra", mms, { language: "fra" }) < 1e-5);
  const [english, french] = [loadModel(mms), loadModel(mms, { language: "fra" })];
  t.deepEqual([english.language, french.language], ["eng", "fra"]);
  t.deepEqual([english, french].map(({ tokenizer }) => tokenizer?.size), [12, 14]);
  t.is(english.tokenizer?.decode([9, 10, 4, 5]), "ef a");
  t.is(french.tokenizer?.decode([10, 11, 4, 5]), "éè a");
  t.deepEqual(french.tokenizer?.encode("éç"), [10, 12]);
});

test.serial("speech is written in the language that is asked for", async (t) => {
  const told = new Recognizer(loadModel(mms, { language: "fra" }), { language: "fra" }).transcribe(samples).text;
  t.is(new Recognizer(loadModel(mms, { language: "fra" })).transcribe(samples).text, told);
  t.not(new Recognizer(loadModel(mms)).transcribe(samples).text, told);
  await using transcriber = await Transcriber.load({ model: mms, language: "fra" });
  t.is((await transcriber.transcribe(clip)).text, told);
  const result = await usmLite("transcribe", "--model", mms, "--language", "fra", "--device", "cpu", clip);
  t.is(result.status, 0, result.stderr);
  t.is(result.stdout, `${told}\n`);
  await t.throwsAsync(Transcriber.load({ model: mms, language: "spa" }), { code: "INVALID_ARGUMENT", message: /"spa"/ });
});

test("a language that is not there is one coded error", (t) => {
  const load = (path: string, language?: string) => () => loadModel(path, { language });
  t.throws(load(mms, "fr"), {
    code: "INVALID_ARGUMENT",
    message: /the model in .* knows no language "fr"; vocab\.json knows fra, deu, eng$/,
  });
  t.throws(load(mms, "deu"), {
    code: "FILE_NOT_FOUND",
    message: /adapter\.deu\.safetensors does not exist, .* here are those of eng, fra\. usm-lite pull ORG\/MODEL --language deu brings others/,
  });
  for (const language of ["", "../mms", "constructor"]) t.throws(load(mms, language), { code: "INVALID_ARGUMENT" }, language);
  const climbing = withJson("vocab.json", (json) => ({ ...json, "../fra": json["fra"] as JsonObject }));
  t.throws(load(climbing, "../fra"), { code: "INVALID_ARGUMENT" });
  const without = withJson("tokenizer_config.json", ({ target_lang, ...rest }) => (t.is(target_lang, "eng"), rest));
  t.throws(load(without), {
    code: "BAD_TOKENIZER",
    message: /one vocabulary for each language, and tokenizer_config\.json has no target_lang; name a language/,
  });
  t.is(loadModel(without, { language: "fra" }).language, "fra");
  const strange = withJson("tokenizer_config.json", (json) => ({ ...json, target_lang: "xho" }));
  t.throws(load(strange), { code: "BAD_TOKENIZER", message: /target_lang is "xho"; vocab\.json knows deu, eng, fra/ });
  const mixed = withJson("vocab.json", (json) => ({ ...json, a: 1 }));
  t.throws(load(mixed), { code: "BAD_TOKENIZER", message: /vocabularies of languages such as "eng" beside the token "a"/ });
  const plain = withJson("config.json", ({ adapter_attn_dim: _, do_stable_layer_norm: __, ...rest }) => rest);
  t.throws(load(plain, "fra"), {
    code: "FILE_NOT_FOUND",
    message: /without adapter_attn_dim in config\.json, it has those of model\.safetensors alone/,
  });
});

test("a model of one language takes none, and no other than it was loaded for", (t) => {
  const flat = withJson("vocab.json", (json) => json["eng"] as JsonObject);
  const model = loadModel(flat, { language: "fra" });
  t.is(model.language, undefined);
  t.throws(() => new Recognizer(model, { language: "fra" }), { code: "INVALID_ARGUMENT", message: /takes no language; leave it out/ });
  const english = loadModel(mms);
  const other = { code: "INVALID_ARGUMENT", message: /was loaded for the language "eng", not for "fra"; load it for that one/ };
  t.throws(() => new Recognizer(english, { language: "fra" }), other);
  t.throws(() => transcriptEncoder(english, "fra"), other);
  t.notThrows(() => transcriptEncoder(english, "eng"));
  t.throws(() => new Recognizer(english, { task: "translate" }), { code: "INVALID_ARGUMENT", message: /does not translate/ });
});

test("an adapter of another model is refused", (t) => {
  const head = "lm_head.weight";
  const layer = "wav2vec2.encoder.layers.1.adapter_layer.linear_1.bias";
  const refuse = (path: string, message: RegExp): void =>
    void t.throws(() => loadModel(path, { language: "fra" }), { code: "BAD_CHECKPOINT", message });
  const fewerLayers = withAdapter((entries) => entries.delete(layer));
  refuse(fewerLayers, /adapter\.fra\.safetensors has no tensor ".*linear_1\.bias", which .*; it must be/);
  refuse(withAdapter((entries) => entries.delete(head)), /has no tensor "lm_head\.weight"/);
  const more = withAdapter((entries) => entries.set("other", entries.get(layer) as SafetensorsEntry));
  refuse(more, /has a tensor "other", which .* does not have/);
  const wide: SafetensorsEntry = { dtype: "F32", shape: [9], data: new Float32Array(9) };
  refuse(withAdapter((entries) => entries.set(layer, wide)), /of shape \(9\), where .* has \(8\)/);
  const narrow: SafetensorsEntry = { dtype: "F32", shape: [14, 31], data: new Float32Array(14 * 31) };
  refuse(withAdapter((entries) => entries.set(head, narrow)), /of shape \(14, 31\), where .* has \(12, 32\)/);
  const infinite: SafetensorsEntry = { dtype: "F32", shape: [8], data: new Float32Array(8).fill(NaN) };
  const endless = withAdapter((entries) => entries.set(layer, infinite));
  refuse(endless, /model\.safetensors with adapter\.fra\.safetensors: value 0 of tensor .* is NaN/);
  refuse(copyOf((path) => writeFileSync(join(path, "adapter.fra.safetensors"), "nothing")), /adapter\.fra\.safetensors/);
  const fewer: SafetensorsEntry = { dtype: "F32", shape: [13, 32], data: new Float32Array(13 * 32) };
  const bias: SafetensorsEntry = { dtype: "F32", shape: [13], data: new Float32Array(13) };
  const short = withAdapter((entries) => entries.set(head, fewer).set("lm_head.bias", bias));
  t.throws(() => new Recognizer(loadModel(short, { language: "fra" })), { code: "BAD_TOKENIZER" });
});

test("tokens that were added to the vocabulary of one language do not displace those of another", (t) => {
  const added = withJson("tokenizer_config.json", (json) => ({ ...json, added_tokens_decoder: { 11: { content: "<added>" } } }));
  const { tokenizer } = loadModel(added, { language: "fra" });
  t.is((tokenizer as Tokenizer).piece(11), "è");
  t.is(tokenizer?.size, 14);
});

test("a packed model has the weights and the vocabulary of one language", async (t) => {
  const out = join(folder.path, "packed");
  await compressModel({ model: mms, language: "fra", recipe: roundToNearest("int8"), manifest: undefined, out });
  t.deepEqual(Object.keys(readJsonFile(join(out, "vocab.json"), "BAD_TOKENIZER")), ["fra"]);
  t.false(readdirSync(out).some((file) => file.startsWith("adapter.")));
  const model = loadModel(out);
  t.is(model.language, "fra");
  t.is(model.network.vocabularySize, 14);
  t.false([...model.compression.specs.keys()].some((name) => name.includes("adapter_layer")), "adapters stay as they are");
  t.is(model.compression.specs.size, 12);
  const error = errorBeside("fra", out);
  t.true(error > 1e-5 && error < 3e-2, `${error}`);
  t.is(errorBeside("fra", out, { language: "fra" }), error);
  t.throws(() => loadModel(out, { language: "eng" }), { code: "INVALID_ARGUMENT", message: /vocab\.json knows fra$/ });

  const named = join(folder.path, "named");
  const recipe = roundToNearest("int8", { "*.adapter_layer.*": "int4" });
  await compressModel({ model: mms, recipe, manifest: undefined, out: named });
  t.is(loadModel(named).language, "eng", "its own, when none is named");
  t.is([...loadModel(named).compression.specs].filter(([name, spec]) => name.includes("adapter_layer") && spec.text === "int4").length, 4);
  const size = (language: string): number => dryRun({ model: mms, language, recipe, manifest: undefined }).size.file.parameters;
  t.is(size("fra") - size("eng"), 2 * 33, "two tokens more");
  const none = join(folder.path, "none");
  for (const [language, code] of [
    ["spa", "INVALID_ARGUMENT"],
    ["deu", "FILE_NOT_FOUND"],
  ] as const)
    await t.throwsAsync(compressModel({ model: mms, language, recipe, manifest: undefined, out: none }), { code });
  t.false(existsSync(none));
});

test.serial("fine-tuning trains the adapter of the language with the rest", async (t) => {
  const out = join(folder.path, "trained");
  const training = { steps: 2, learningRate: 1e-2, warmUpSteps: 1, speedPerturbation: false, specAugment: false };
  const modifiers = [
    { type: "quantization", spec: "int8" },
    { type: "distillation", teacher: "float", labels: 0.5, logits: 0.5 },
  ];
  const recipe = parseRecipe(JSON.stringify({ stages: [{ modifiers, training }] }), "r.yaml");
  t.true(await compressModel({ model: mms, language: "fra", recipe, manifest, out }));
  t.is(loadModel(out).language, "fra");
  using packed = readSafetensors(join(out, "model.safetensors"));
  using adapter = readSafetensors(join(mms, "adapter.fra.safetensors"));
  for (const name of adapter.names()) {
    t.deepEqual(packed.shape(name), adapter.shape(name));
    t.notDeepEqual(packed.values(name), adapter.values(name), name);
  }
  await t.throwsAsync(compressModel({ model: mms, language: "spa", recipe, manifest, out: `${out}2` }), { code: "INVALID_ARGUMENT" });
});

test("what adapts to a speaker is bound to the language as well", (t) => {
  const checksum = (path: string, language?: string): string => new AdapterBase(loadModel(path, { language })).checksum;
  t.is(checksum(mms), checksum(mms, "eng"));
  t.not(checksum(mms, "fra"), checksum(mms));
  const alone = copyOf((path) => rmSync(join(path, "adapter.fra.safetensors")));
  t.is(checksum(alone), checksum(mms));
});

test("usm-lite compress and forward take a language", async (t) => {
  const path = (name: string): string => join(folder.path, name);
  const [out, recipe, output] = [path("cli"), path("recipe.yaml"), path("logits.safetensors")];
  const input = join(mms, "expected.fra.safetensors");
  writeFileSync(recipe, JSON.stringify({ stages: [{ modifiers: [{ type: "round-to-nearest", spec: "int8" }] }] }));
  const results = await Promise.all([
    usmLiteHere("compress", "--model", mms, "--language", "fra", "--recipe", recipe, "--out", out),
    usmLiteHere("compress", "--model", mms, "--language", "spa", "--recipe", recipe, "--out", `${out}2`),
    usmLiteHere("forward", "--model", mms, "--language", "fra", "--device", "cpu", "--input", input, "--output", output),
  ]);
  t.deepEqual(
    results.map(({ status }) => status),
    [0, 2, 0],
    results.map(({ stderr }) => stderr).join("\n"),
  );
  t.regex(results[1]?.stderr as string, /knows no language "spa".*\[INVALID_ARGUMENT\]/);
  t.is(readJsonFile(join(out, "tokenizer_config.json"), "BAD_TOKENIZER")["target_lang"], "fra");
  t.false(readFileSync(join(out, "vocab.json"), "utf8").includes("eng"));
  using file = readSafetensors(output);
  t.is(file.shape("logits")[2], 14);
});

test("usm-lite tune and inspect take a language, also where the model does not say which is its own", async (t) => {
  const model = copyOf((path) => {
    writeLanguageModel(join(path, "language_model.bin"), trainLanguageModel(["AB A", "BA AB"]));
    const { target_lang: _, ...others } = readJsonFile(join(path, "tokenizer_config.json"), "BAD_TOKENIZER");
    writeJsonFile(join(path, "tokenizer_config.json"), others);
  });
  const tune = (language?: string) => tuneLanguageModel({ model, data: manifest, language });
  await t.throwsAsync(tune(), { code: "BAD_TOKENIZER", message: /name a language/ });
  await t.throwsAsync(tune("spa"), { code: "INVALID_ARGUMENT", message: /knows no language "spa"/ });
  t.throws(() => measureModel(model, "spa"), { code: "INVALID_ARGUMENT" });
  t.is(measureModel(model, "fra").file.parameters - measureModel(model).file.parameters, 2 * 33, "two tokens more");
  const [tuned, inspected, unknown] = await Promise.all([
    usmLiteHere("tune", "--model", model, "--language", "fra", "--device", "cpu", "--data", manifest),
    usmLiteHere("inspect", model, "--language", "fra", "--json"),
    usmLiteHere("tune", "--model", model, "--language", "spa", "--data", manifest),
  ]);
  t.is(tuned.status, 0, tuned.stderr);
  t.regex(tuned.stdout, /^alpha [\d.]+, beta [-\d.]+, blank penalty [\d.]+: WER/);
  t.is(loadModel(model, { language: "fra" }).languageModelWeights?.alpha, (await tune("fra"))[0]?.alpha);
  t.deepEqual(JSON.parse(inspected.stdout), JSON.parse(JSON.stringify(measureModel(model, "fra"))));
  t.is(unknown.status, 2);
  const one = copyOf((path) => {
    writeLanguageModel(join(path, "language_model.bin"), trainLanguageModel(["AB A"]));
    const { eng } = readJsonFile(join(path, "vocab.json"), "BAD_TOKENIZER");
    writeJsonFile(join(path, "vocab.json"), eng as JsonObject);
  });
  await t.throwsAsync(tuneLanguageModel({ model: one, data: manifest, language: "fra" }), { message: /takes no language; leave it out/ });
});

test("a service knows a language by its longer code too", (t) => {
  const served = (language: string) => ({ name: "m", aliases: [], language });
  for (const [asked, language] of [
    ["fr", "fra"],
    ["fra", "fr"],
    ["fr-CA", "fra"],
    ["French", "fra"],
    ["azj-script_cyrillic", "azj-script_cyrillic"],
    ["abcd", "abcd"],
  ] as const)
    t.notThrows(() => checkLanguage(asked, served(language)), asked);
  t.throws(() => checkLanguage("deu", served("fra")), { message: /recognises fra/ });
  t.deepEqual(["fra", "eng", "abcd", "x1"].map(languageName), ["french", "english", "abcd", "x1"]);
});
