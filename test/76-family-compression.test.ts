import { cpSync, copyFileSync, existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { readWeights } from "../lib/checkpoint/sharded_safetensors.js";
import {
  compressModel,
  loadModel,
  measureModel,
  readSafetensors,
  Recognizer,
  writeSafetensors,
  type SafetensorsEntry,
} from "../lib/index.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import { randomValues } from "./gradient.js";
import { families, type FamilyCase } from "./packable_families.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { temporaryFolder, tones } from "./tiny_model.js";
import { rootMeanSquareError } from "./differences.js";

const folder = temporaryFolder("families");
test.after.always(folder.clean);
const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text");
const vocabulary = { "<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, A: 5, B: 6, C: 7, D: 8 };

function write(family: string, name = family): string {
  const { config, preprocessor, generation, tokenizer } = families[family] as FamilyCase;
  const path = writeRandomModel(join(folder.path, name), { model_type: family, ...config }, preprocessor, generation ? { generation } : {});
  if (tokenizer === "vocab.json") writeFileSync(join(path, tokenizer), JSON.stringify(vocabulary));
  else copyFileSync(join(fixtures, tokenizer), join(path, "tokenizer.json"));
  return path;
}

/** Half a second of features (or samples) for `forward`, the second of two items shorter. */
function inputOf(family: string, path: string): string {
  const shapes: Readonly<Record<string, readonly number[]>> = { whisper: [1, 80, 100], "wav2vec2-bert": [2, 30, 160] };
  const shape = shapes[family] ?? (family.startsWith("parakeet") ? [2, 60, 80] : [2, 4000]);
  const size = shape.reduce((product, extent) => product * extent, 1);
  const [, length] = shape as [number, number];
  const mask = Int32Array.from({ length: 2 * length }, (_, i) => (i < length + length / 2 ? 1 : 0));
  const entries: [string, SafetensorsEntry][] = [
    [shape.length === 2 ? "input_values" : "input_features", { dtype: "F32", shape, data: randomValues(size, 4) }],
  ];
  if (family === "whisper") entries.push(["decoder_input_ids", { dtype: "I64", shape: [1, 3], data: BigInt64Array.of(310n, 40n, 41n) }]);
  else entries.push(["attention_mask", { dtype: "I32", shape: [2, length], data: mask }]);
  writeSafetensors(path, entries);
  return path;
}

const forward = (model: string, input: string, weights: "packed" | "float32" = "packed"): Map<string, Float32Array> => {
  using file = readSafetensors(input);
  return new Map(
    paddedForward(loadModel(model, { weights }).network, file).map(([name, entry]) => [
      name,
      (entry as unknown as { data: Float32Array }).data,
    ]),
  );
};

for (const family of Object.keys(families)) {
  test(`${family}: packs, loads, computes and transcribes`, async (t) => {
    const model = write(family);
    const input = inputOf(family, join(folder.path, `${family}.input`));
    const hidden = "encoder_last_hidden_state";
    const original = forward(model, input).get(hidden) as Float32Array;
    const errors: number[] = [];
    for (const spec of ["int8", "int4+2:4"]) {
      const out = join(folder.path, `${family}-${spec.replace(":", "-")}`);
      t.true(await compressModel({ model, recipe: roundToNearest(spec), manifest: undefined, out }));
      t.true(existsSync(join(out, "preprocessor_config.json")) && readdirSync(out).every((name) => !name.endsWith(".partial")));
      const size = measureModel(out);
      t.true(size.layers.length > 0 && size.layers.every((layer) => layer.spec === spec));
      t.true(size.linear.bitsPerWeight < { int8: 9.1, "int4+2:4": 3.7 }[spec as "int8"], `${size.linear.bitsPerWeight}`);
      const packed = forward(out, input).get(hidden) as Float32Array;
      const unpacked = forward(out, input, "float32").get(hidden) as Float32Array;
      t.true(rootMeanSquareError(packed, unpacked) < 0.05, `${spec} packed against unpacked: ${rootMeanSquareError(packed, unpacked)}`);
      errors.push(rootMeanSquareError(unpacked, original));
      const speech = new Recognizer(loadModel(out)).transcribe(tones(1.2, 2));
      t.is(speech.duration, 1.2);
      t.deepEqual(new Recognizer(loadModel(out)).transcribeBatch([tones(0.7, 1), tones(1.2, 2)])[1], speech, "beside another");
    }
    t.true((errors[0] as number) < 0.05 && (errors[0] as number) < (errors[1] as number), errors.join(", "));
  });
}

test("a transducer's other layers are packed where a pattern names them, and the beam search reads them", async (t) => {
  const model = write("parakeet_tdt", "patterns");
  const recipe = roundToNearest("int4+2:4", { "decoder.*": "int8", "joint.head": "int8", encoder_projector: "int8" });
  const out = join(folder.path, "patterns-packed");
  await compressModel({ model, recipe, manifest: undefined, out });
  const names = measureModel(out)
    .layers.filter(({ spec }) => spec === "int8")
    .map(({ name }) => name);
  t.deepEqual(names.sort(), [
    "decoder.decoder_projector.weight",
    "decoder.lstm.weight_hh_l0",
    "decoder.lstm.weight_hh_l1",
    "decoder.lstm.weight_ih_l0",
    "decoder.lstm.weight_ih_l1",
    "encoder_projector.weight",
    "joint.head.weight",
  ]);
  const loaded = loadModel(out);
  for (const decoder of ["greedy", "beam"] as const) t.is(new Recognizer(loaded, { decoder }).transcribe(tones(1, 1)).duration, 1);
});

test("Whisper's embedding is packed where a pattern names it, and scores tokens packed", async (t) => {
  const model = write("whisper", "embedding");
  const recipe = roundToNearest("int8", { "model.decoder.embed_tokens": "int8", "model.encoder.conv*": "int8" });
  const out = join(folder.path, "embedding-packed");
  await compressModel({ model, recipe, manifest: undefined, out });
  t.true(measureModel(out).layers.some(({ name, spec }) => name === "model.decoder.embed_tokens.weight" && spec === "int8"));
  const input = inputOf("whisper", join(folder.path, "embedding.input"));
  const wanted = forward(model, input).get("logits") as Float32Array;
  for (const weights of ["packed", "float32"] as const) {
    const error = rootMeanSquareError(forward(out, input, weights).get("logits") as Float32Array, wanted);
    t.true(error > 0 && error < 0.05, `${weights}: ${error}`);
  }
});

/** Rewrites the weights with other element types, or in several files. */
function rewrite(model: string, name: string, change: (entries: [string, SafetensorsEntry][]) => [string, SafetensorsEntry][][]): string {
  const copy = join(folder.path, name);
  cpSync(model, copy, { recursive: true });
  const path = join(copy, "model.safetensors");
  using file = readSafetensors(path);
  const shards = change(
    file.names().map((tensor) => [tensor, { dtype: file.dtype(tensor), shape: file.shape(tensor), data: file.bytes(tensor) }]),
  );
  rmSync(path);
  if (shards.length === 1) {
    writeSafetensors(path, shards[0] as [string, SafetensorsEntry][]);
    return copy;
  }
  const map: Record<string, string> = {};
  shards.forEach((entries, index) => {
    const shard = `model-0000${index + 1}-of-0000${shards.length}.safetensors`;
    writeSafetensors(join(copy, shard), entries);
    for (const [tensor] of entries) map[tensor] = shard;
  });
  writeFileSync(join(copy, "model.safetensors.index.json"), JSON.stringify({ metadata: { total_size: 1 }, weight_map: map }));
  return copy;
}

test("weights in several files give what one file gives", async (t) => {
  const model = write("parakeet_ctc", "whole");
  const sharded = rewrite(model, "sharded", (entries) => [
    entries.filter((_, i) => i % 3 === 0),
    entries.filter((_, i) => i % 3 === 1),
    entries.filter((_, i) => i % 3 === 2),
  ]);
  const input = inputOf("parakeet_ctc", join(folder.path, "sharded.input"));
  t.deepEqual(forward(sharded, input), forward(model, input));
  t.is(measureModel(sharded).file.parameters, measureModel(model).file.parameters);
  const out = join(folder.path, "sharded-packed");
  await compressModel({ model: sharded, recipe: roundToNearest("int8"), manifest: undefined, out });
  t.true(forward(out, input).has("logits"));

  const index = join(sharded, "model.safetensors.index.json");
  const json = JSON.parse(readFileSync(index, "utf8")) as { weight_map: Record<string, string> };
  const refuse = (map: unknown, message: RegExp): void => {
    writeFileSync(index, JSON.stringify({ weight_map: map }));
    t.throws(() => readWeights(sharded), { code: "BAD_CHECKPOINT", message });
  };
  const [first = ""] = Object.keys(json.weight_map);
  refuse(undefined, /must have an object "weight_map"/);
  refuse({ ...json.weight_map, [first]: "../model.safetensors" }, /no safetensors file beside it/);
  refuse({ ...json.weight_map, "not.there": json.weight_map[first] as string }, /which has none of that name/);
  const { [first]: _, ...others } = json.weight_map;
  refuse(others, /does not say that tensor/);
  writeFileSync(index, JSON.stringify({ weight_map: { ...json.weight_map, [first]: "none.safetensors" } }));
  t.throws(() => readWeights(sharded), { code: "FILE_NOT_FOUND", message: /none\.safetensors/ });
});

test("float16 and bfloat16 weights give nearly what float32 gives, and keep their type", async (t) => {
  const model = write("whisper", "wide");
  const input = inputOf("whisper", join(folder.path, "half.input"));
  const wanted = forward(model, input).get("logits") as Float32Array;
  for (const [dtype, tolerance] of [
    ["F16", 2e-3],
    ["BF16", 2e-2],
  ] as const) {
    const half = rewrite(model, dtype, (entries) => [
      entries.map(([name, entry]) => {
        const { shape, data } = entry as unknown as { shape: number[]; data: Uint8Array };
        return [name, { dtype, shape, data: (dtype === "F16" ? halves : brainFloats)(new Float32Array(data.slice().buffer)) }];
      }),
    ]);
    const error = rootMeanSquareError(forward(half, input).get("logits") as Float32Array, wanted);
    t.true(error > 0 && error < tolerance, `${dtype}: ${error}`);
    const out = join(folder.path, `${dtype}-packed`);
    await compressModel({ model: half, recipe: roundToNearest("int8"), manifest: undefined, out });
    using file = readSafetensors(join(out, "model.safetensors"));
    t.is(file.dtype("model.decoder.embed_tokens.weight"), dtype);
  }
});

const brainFloats = (values: Float32Array): Uint16Array =>
  Uint16Array.from(new Uint32Array(values.buffer), (bits) => (bits + 0x8000) >>> 16);

/** Normal float16 values of moderate size, rounded; anything smaller becomes zero. */
const halves = (values: Float32Array): Uint16Array =>
  Uint16Array.from(new Uint32Array(values.buffer), (bits) => {
    const rounded = bits + 0x1000;
    const exponent = ((rounded >>> 23) & 255) - 112;
    return ((rounded >>> 16) & 0x8000) | (exponent <= 0 ? 0 : (exponent << 10) | ((rounded >>> 13) & 1023));
  });

test("missing, extra and wrongly shaped tensors are named, whatever the family", (t) => {
  const model = write("hubert", "damaged");
  const refuse = (name: string, change: (entries: [string, SafetensorsEntry][]) => [string, SafetensorsEntry][], message: RegExp): void => {
    const damaged = rewrite(model, name, (entries) => [change(entries)]);
    t.throws(() => loadModel(damaged), { code: "BAD_CHECKPOINT", message });
    t.throws(() => measureModel(damaged), { code: "BAD_CHECKPOINT", message });
  };
  refuse(
    "missing",
    (entries) => entries.filter(([name]) => name !== "lm_head.bias"),
    /no tensor "lm_head\.bias", which config\.json asks for/,
  );
  refuse(
    "extra",
    (entries) => [...entries, ["quantizer.codevectors", { dtype: "F32", shape: [1], data: new Float32Array(1) }]],
    /have no place .* the first is "quantizer\.codevectors"/,
  );
  refuse(
    "shape",
    (entries) =>
      entries.map(([name, entry]) => [name, name === "lm_head.bias" ? { dtype: "F32", shape: [8], data: new Float32Array(8) } : entry]),
    /"lm_head\.bias" has shape \(8\) but config\.json asks for \(9\)/,
  );
  const other = join(folder.path, "other");
  cpSync(model, other, { recursive: true });
  const config = JSON.parse(readFileSync(join(other, "config.json"), "utf8")) as Record<string, unknown>;
  writeFileSync(join(other, "config.json"), JSON.stringify({ ...config, model_type: "wav2vec2" }));
  t.throws(() => loadModel(other), { code: "BAD_CHECKPOINT", message: /no tensor "wav2vec2\..*", which config\.json asks for/ });
});
