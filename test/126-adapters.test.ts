import { mkdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  Adapter,
  AdapterBase,
  adaptSpeaker,
  loadModel,
  readAdapter,
  readManifest,
  readSafetensors,
  Recognizer,
  stackAdapters,
  Tensor,
  Transcriber,
  UsmLiteError,
  writeAdapter,
  writeSafetensors,
} from "../lib/index.js";
import { packedTiny, randomAdapter } from "./adapters.js";
import { randomValues } from "./gradient.js";
import { editJson, temporaryFolder, tones, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("adapters");
test.after.always(folder.clean);
const float = writeTinyModel(join(folder.path, "float"));
const packed = await packedTiny(float, join(folder.path, "packed"));
const about = { dropout: 0, training: {} };

test("recordings of different speakers share a pass, and each gets what it gets alone", (t) => {
  for (const path of [float, packed]) {
    const model = loadModel(path);
    const base = new AdapterBase(model);
    const adapters = [randomAdapter(base, 3, 1), undefined, randomAdapter(base, 5, 2), randomAdapter(base, 2, 3)];
    const speech = adapters.map((_, index) => tones(1 + 0.3 * index, index));
    const recognizer = new Recognizer(model, { decoder: "greedy" });
    const chunks = speech.map((samples, index) => ({ ...recognizer.featureChunk(samples), adapter: adapters[index] }));
    const together = recognizer.forward(chunks);
    chunks.forEach((chunk, index) => t.deepEqual(together[index], recognizer.forward([chunk])[0], `recording ${index}, to the bit`));
    t.deepEqual(together[1], recognizer.forward([{ ...(chunks[1] as (typeof chunks)[0]), adapter: undefined }])[0]);
    const [first, second] = [chunks[0], { ...chunks[0], adapter: adapters[2] }] as [(typeof chunks)[0], (typeof chunks)[0]];
    t.notDeepEqual(recognizer.forward([first])[0]?.values, recognizer.forward([second])[0]?.values);
    const alone = speech.map((samples, index) => recognizer.transcribeBatch([samples], undefined, [adapters[index]])[0]);
    t.deepEqual(recognizer.transcribeBatch(speech, undefined, adapters), alone as never);
    for (const adapter of adapters) adapter?.dispose();
  }
});

test("an adapter comes back from its files, and stacked ones add up", (t) => {
  const model = loadModel(packed);
  const base = new AdapterBase(model);
  const recognizer = new Recognizer(model, { decoder: "greedy" });
  const [a, b] = [randomAdapter(base, 3, 4), randomAdapter(base, 2, 5, "feed_forward")] as const;
  const both = stackAdapters([a, b]);
  const path = join(folder.path, "both");
  writeAdapter(path, both, base, about);
  using read = readAdapter(path, base);
  t.deepEqual([...read.factors.keys()].sort(), [...both.factors.keys()].sort());
  const chunk = recognizer.featureChunk(tones(1.5, 1));
  t.deepEqual(recognizer.forward([{ ...chunk, adapter: read }]), recognizer.forward([{ ...chunk, adapter: both }]));
  for (const [name, { down, up }] of both.factors) {
    const parts = [a, b].flatMap(({ factors }) => factors.get(name) ?? []);
    t.is(
      down.dim(0),
      parts.reduce((sum, part) => sum + part.down.dim(0), 0),
    );
    t.deepEqual(up.toArray(), Float32Array.from(parts.flatMap((part) => [...part.up.toArray()])));
  }
  // The layout of PEFT: B is (out, rank), pointwise convolutions have convolutions as factors.
  using file = readSafetensors(join(path, "adapter_model.safetensors"));
  t.deepEqual(file.shape("base_model.model.encoder.layers.0.feed_forward1.linear1.lora_B.weight"), [64, 5]);
  t.deepEqual(file.shape("base_model.model.encoder.layers.1.conv.pointwise_conv1.lora_A.weight"), [3, 32, 1]);
  t.deepEqual(file.shape("base_model.model.encoder.layers.1.conv.pointwise_conv1.lora_B.weight"), [64, 3, 1]);
  const config = JSON.parse(readFileSync(join(path, "adapter_config.json"), "utf8")) as Record<string, Record<string, unknown>>;
  t.like(config, { peft_type: "LORA", r: 5, lora_alpha: 5, bias: "none" } as never);
  t.is(config["rank_pattern"]?.["encoder.layers.0.self_attn.q_proj"], 3);
  t.regex(String(config["usm_lite"]?.["base_checksum"]), /^sha256:[0-9a-f]{64}$/);
  for (const adapter of [a, b, both]) adapter.dispose();
});

test("factors that PEFT would apply are applied", (t) => {
  const base = new AdapterBase(loadModel(float));
  const module = "encoder.layers.0.self_attn.q_proj";
  const path = join(folder.path, "scaled");
  const only = new Adapter(new Map([...randomAdapter(base, 4, 1).factors].filter(([name]) => name === `${module}.weight`)));
  writeAdapter(path, only, base, about);
  const up = only.factors.get(`${module}.weight`)?.up.toArray() as Float32Array;
  for (const [settings, scale] of [
    [{ lora_alpha: 8 }, 2],
    [{ lora_alpha: 8, use_rslora: true }, 4],
    [{ r: 9, rank_pattern: { q_proj: 4 }, alpha_pattern: { "self_attn.q_proj": 12 } }, 3],
    [{ alpha_pattern: { "^encoder.layers.0.self_attn.q_proj": 2, v_proj: 40 } }, 0.5],
  ] as const) {
    editJson(join(path, "adapter_config.json"), (json) =>
      Object.assign(json, { r: 4, lora_alpha: 4, use_rslora: false, rank_pattern: {}, alpha_pattern: {}, ...settings }),
    );
    using read = readAdapter(path, base);
    t.deepEqual(
      read.factors.get(`${module}.weight`)?.up.toArray(),
      up.map((value) => value * scale),
      JSON.stringify(settings),
    );
  }
});

test("hostile and foreign adapters are coded errors", (t) => {
  const model = loadModel(float);
  const base = new AdapterBase(model);
  const good = randomAdapter(base, 2, 1);
  const path = join(folder.path, "hostile");
  const bad = (
    code: string,
    message: RegExp,
    edit: { config?: Record<string, unknown>; weights?: (entries: Map<string, Tensor>) => void },
  ): void => {
    writeAdapter(path, good, base, about);
    if (edit.config) editJson(join(path, "adapter_config.json"), (json) => Object.assign(json, edit.config));
    if (edit.weights) {
      const weights = join(path, "adapter_model.safetensors");
      const entries = new Map<string, Tensor>();
      {
        using file = readSafetensors(weights);
        for (const name of file.names()) entries.set(name, file.tensor(name));
      }
      edit.weights(entries);
      writeSafetensors(weights, entries);
    }
    t.throws(() => readAdapter(path, base), { code, message });
  };
  const key = "base_model.model.encoder.layers.0.feed_forward1.linear1.lora_A.weight";
  bad("BAD_ADAPTER", /peft_type/, { config: { peft_type: "LOHA" } });
  bad("BAD_ADAPTER", /"r"/, { config: { r: 1e9 } });
  bad("BAD_ADAPTER", /use_dora/, { config: { use_dora: true } });
  bad("BAD_ADAPTER", /modules_to_save/, { config: { modules_to_save: ["ctc_head"] } });
  bad("BAD_ADAPTER", /no name of a module/, { config: { rank_pattern: { "(a+)+$": 2 } } });
  bad("BAD_ADAPTER", /asks? for \(3, 32\)/, { config: { r: 3 } });
  bad("BAD_ADAPTER", /base_checksum/, { config: { usm_lite: { base_checksum: "none" } } });
  bad("ADAPTER_MISMATCH", /other weights/, { config: { usm_lite: { base_checksum: `sha256:${"0".repeat(64)}` } } });
  bad("BAD_ADAPTER", /NaN/, { weights: (entries) => entries.set(key, Tensor.from(new Float32Array(64).fill(NaN), [2, 32])) });
  const up = key.replace("lora_A", "lora_B");
  bad("BAD_ADAPTER", /beyond float32/, {
    config: { lora_alpha: 1e6 },
    weights: (entries) => entries.set(up, Tensor.from(new Float32Array(128).fill(3e38), [64, 2])),
  });
  bad("BAD_ADAPTER", /shape \(2, 31\)/, { weights: (entries) => entries.set(key, Tensor.zeros([2, 31])) });
  bad("BAD_ADAPTER", /missing/, { weights: (entries) => entries.delete(up) });
  bad("BAD_ADAPTER", /no lora_A/, { weights: (entries) => entries.delete(key) });
  bad("BAD_ADAPTER", /dtype/, { weights: (entries) => entries.set(key, Tensor.zeros([2, 32], "int32")) });
  bad("BAD_ADAPTER", /no linear layer/, {
    weights: (entries) => entries.set("base_model.model.../../etc/passwd.lora_A.weight", Tensor.zeros([2, 32])),
  });
  bad("BAD_ADAPTER", /no factor/, { weights: (entries) => entries.set("encoder.out_norm.weight", Tensor.zeros([32])) });
  bad("BAD_ADAPTER", /holds no tensor/, { weights: (entries) => entries.clear() });
  writeFileSync(join(path, "adapter_model.safetensors"), "no tensors");
  t.throws(() => readAdapter(path, base), { code: "BAD_ADAPTER" });
  const weights = join(path, "adapter_model.safetensors");
  writeSafetensors(weights, [[key, { dtype: "BOOL", shape: [2, 32], data: new Uint8Array(64) }]]);
  t.throws(() => readAdapter(path, base), { code: "BAD_ADAPTER" });
  rmSync(weights);
  t.throws(() => readAdapter(path, base), { code: "FILE_NOT_FOUND", message: /adapter_model/ });
  symlinkSync("adapter_model.safetensors", weights);
  t.throws(() => readAdapter(path, base), { code: "FILE_UNREADABLE", message: /ELOOP/ });
  t.throws(() => readAdapter(join(folder.path, "none"), base), { code: "FILE_NOT_FOUND" });
  const other = new AdapterBase(loadModel(writeTinyModel(join(folder.path, "other"), { seed: 2 })));
  writeAdapter(path, good, base, about);
  t.throws(() => readAdapter(path, other), { code: "ADAPTER_MISMATCH", message: /usm-lite adapt/ });
});

test("damaged adapters are read or refused, never anything else", (t) => {
  const base = new AdapterBase(loadModel(float));
  const path = join(folder.path, "damaged");
  writeAdapter(path, randomAdapter(base, 2, 1, "layers.0.feed_forward1"), base, about);
  const names = ["adapter_config.json", "adapter_model.safetensors"].map((name) => join(path, name));
  const originals = names.map((name) => readFileSync(name));
  const noise = randomValues(2000, 12).map((value) => (value + 1) / 2);
  const outcomes = new Set<string>();
  for (let trial = 0; trial < 500; trial++) {
    const [which, at, byte, end] = noise.slice(trial * 4, trial * 4 + 4) as unknown as [number, number, number, number];
    const file = which < 0.3 ? 0 : 1;
    const bytes = Buffer.from(originals[file] as Buffer);
    const likely = file === 0 || which < 0.9 ? Math.min(bytes.length, 1200) : bytes.length; // where the header is
    bytes[Math.floor(at * likely)] = Math.floor(byte * 256);
    writeFileSync(names[file] as string, trial % 10 === 0 ? bytes.subarray(0, Math.floor(end * bytes.length)) : bytes);
    writeFileSync(names[1 - file] as string, originals[1 - file] as Buffer);
    try {
      readAdapter(path, base).dispose();
      outcomes.add("read");
    } catch (error) {
      outcomes.add(error instanceof UsmLiteError ? error.code : String(error));
    }
  }
  t.deepEqual([...outcomes].sort(), ["ADAPTER_MISMATCH", "BAD_ADAPTER", "read"]);
});

test("learning lowers the loss on a packed model, gives the same bits again, and falls back where it does not help", async (t) => {
  const utterances = readManifest(writeTinyCorpus(join(folder.path, "corpus"), 6));
  const model = loadModel(packed);
  const before = readFileSync(join(packed, "model.safetensors"));
  const settings = { rank: 4, epochs: 3, learningRate: 0.01, batchSeconds: 4, dropout: 0.05, targets: ["*"] };
  const { adapter, report } = await adaptSpeaker(model, utterances, settings);
  t.is(report.kept, "speaker");
  t.true(report.adapted.loss < report.base.loss && report.adapted.wer <= report.base.wer, JSON.stringify(report));
  const again = await adaptSpeaker(loadModel(packed), utterances, settings);
  for (const [name, { up }] of adapter.factors) t.deepEqual(again.adapter.factors.get(name)?.up.toArray(), up.toArray(), name);
  // On top of it something further is learned, and the result holds both.
  const stacked = await adaptSpeaker(model, utterances, { ...settings, shared: adapter, epochs: 1, targets: ["*.q_proj"] });
  t.true(stacked.report.adapted.loss <= report.adapted.loss + 1e-6, JSON.stringify(stacked.report));
  const worse = await adaptSpeaker(model, utterances, { ...settings, learningRate: 100, epochs: 1 });
  t.is(worse.report.kept, "base");
  const recognizer = new Recognizer(model, { decoder: "greedy" });
  const chunk = recognizer.featureChunk(tones(1.5, 1));
  t.deepEqual(recognizer.forward([{ ...chunk, adapter: worse.adapter }]), recognizer.forward([chunk]), "it adds nothing");
  t.deepEqual(readFileSync(join(packed, "model.safetensors")), before);
  const self = await adaptSpeaker(model, utterances, { ...settings, epochs: 1, unsupervised: true });
  t.true(self.report.unsure > 0 && self.report.utterances + self.report.unsure === 6);

  // Two minutes are worth all layers, less those of attention.
  const reaches = async (speech: typeof utterances, targets?: string[]): Promise<boolean> => {
    const learned = await adaptSpeaker(model, speech, {
      rank: 1,
      epochs: 1,
      learningRate: 0.01,
      batchSeconds: 60,
      ...(targets ? { targets } : {}),
    });
    return [...learned.adapter.factors.keys()].some((name) => name.includes("feed_forward"));
  };
  t.false(await reaches(utterances));
  const minutes = Array.from({ length: 11 }, () => utterances).flat();
  t.true(await reaches(minutes));
  t.false(await reaches(minutes, ["*.q_proj"]));

  await t.throwsAsync(adaptSpeaker(model, utterances.slice(0, 1)), { code: "INVALID_ARGUMENT", message: /two at least/ });
  const named = utterances.map((utterance, index) => ({ ...utterance, speaker: ["ann", "bob"][index % 2] as string }));
  await t.throwsAsync(adaptSpeaker(model, named), { code: "BAD_MANIFEST", message: /2 speakers, "ann" and "bob"/ });
  await t.throwsAsync(adaptSpeaker(model, utterances, { rank: 0 }), { code: "INVALID_ARGUMENT", message: /rank/ });
  await t.throwsAsync(adaptSpeaker(model, utterances, { dropout: 1 }), { code: "INVALID_ARGUMENT", message: /dropout/ });
  await t.throwsAsync(adaptSpeaker(model, utterances, { targets: ["*.nothing"] }), {
    code: "INVALID_ARGUMENT",
    message: /matches no layer/,
  });
  await t.throwsAsync(adaptSpeaker(model, utterances, { targets: ["re:("] }), { code: "INVALID_ARGUMENT", message: /regular expression/ });
  await t.throwsAsync(adaptSpeaker(model, [{ ...utterances[0], text: "" } as never, utterances[1] as never]), {
    code: "BAD_MANIFEST",
    message: /empty/,
  });
});

test("a transcriber listens with an adapter, or with that of each speaker", async (t) => {
  const model = loadModel(packed);
  const base = new AdapterBase(model);
  const store = join(folder.path, "speakers");
  mkdirSync(store);
  const adapters = ["ann", "bob"].map((name, index) => {
    const adapter = randomAdapter(base, 3, 10 + index);
    writeAdapter(join(store, name), adapter, base, about);
    return adapter;
  });
  const recognizer = new Recognizer(model);
  const speech = tones(2, 3);
  const expected = [undefined, ...adapters].map((adapter) => recognizer.transcribeBatch([speech], undefined, adapter)[0]);
  t.notDeepEqual(expected[1], expected[2]);
  await using one = await Transcriber.load({ model: packed, adapter: join(store, "ann") });
  t.deepEqual(await one.transcribe(speech), expected[1]);
  await using many = await Transcriber.load({ model: packed, adapters: store });
  const results = await Promise.all([{}, { speaker: "ann" }, { speaker: "bob" }, {}].map((options) => many.transcribe(speech, options)));
  t.deepEqual(results, [...expected, expected[0]] as never);
  await t.throwsAsync(many.transcribe(speech, { speaker: "carol" }), { code: "UNKNOWN_SPEAKER", message: /carol/ });
  await t.throwsAsync(many.transcribe(speech, { speaker: "../ann" }), { code: "INVALID_ARGUMENT", message: /no name of a speaker/ });
  await t.throwsAsync(one.transcribe(speech, { speaker: "ann" }), { code: "UNKNOWN_SPEAKER", message: /no folder of adapters/ });
  await t.throwsAsync(Transcriber.load({ model: float, adapter: join(store, "ann") }), { code: "ADAPTER_MISMATCH" });
  await t.throwsAsync(Transcriber.load({ model: packed, adapters: join(folder.path, "nowhere") }), {
    code: "FILE_NOT_FOUND",
    message: /folder of adapters/,
  });
});
