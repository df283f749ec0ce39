import { cpSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  compressModel,
  dryRun,
  loadModel,
  measureModel,
  parseRecipe,
  readSafetensors,
  Tensor,
  writeSafetensors,
  type SafetensorsEntry,
} from "../lib/index.js";
import { quantizationConfig, type CompressedTensorsFormat } from "../lib/checkpoint/compressed_tensors.js";
import { readPackedWeight } from "../lib/checkpoint/packed_weights.js";
import { CompressionState } from "../lib/compress/compression_state.js";
import { exportModel } from "../lib/compress/export.js";
import { parseWeightSpec } from "../lib/quant/weight_spec.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { editWeights, temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("compressed-tensors");
test.after.always(folder.clean);

const config = {
  model_type: "whisper",
  vocab_size: 320,
  d_model: 48,
  encoder_layers: 1,
  encoder_attention_heads: 2,
  encoder_ffn_dim: 64,
  decoder_layers: 1,
  decoder_attention_heads: 2,
  decoder_ffn_dim: 64,
  max_source_positions: 50,
  max_target_positions: 16,
  eos_token_id: 300,
  decoder_start_token_id: 310,
};
const model = writeRandomModel(join(folder.path, "float"), config, { feature_extractor_type: "WhisperFeatureExtractor", chunk_length: 1 });
let folders = 0;

async function packed(spec: string, format?: CompressedTensorsFormat): Promise<string> {
  const out = join(folder.path, String(folders++));
  await compressModel({ model, recipe: roundToNearest(spec), manifest: undefined, out, format });
  return out;
}

const read = (path: string): Record<string, never> => JSON.parse(readFileSync(join(path, "config.json"), "utf8")) as Record<string, never>;

/** A copy that only says what other programs understand. */
function asOthers(path: string, change: (section: Record<string, unknown>) => void = () => undefined): string {
  const copy = join(folder.path, String(folders++));
  cpSync(path, copy, { recursive: true });
  const { usm_lite: _, ...rest } = read(copy) as Record<string, unknown>;
  change(rest["quantization_config"] as Record<string, unknown>);
  writeFileSync(join(copy, "config.json"), JSON.stringify(rest));
  return copy;
}

const name = "model.encoder.layers.0.fc1.weight";
const weightOf = (path: string): number[] => [
  ...(loadModel(path, { weights: "float32" }).network.parameters().get(name)?.toArray() as Float32Array),
];

for (const spec of ["int8", "int4", "int3", "int5", "int4/g32"]) {
  test(`${spec} is written so that compressed-tensors reads it, and read from that alone`, async (t) => {
    const own = await packed(spec);
    const section = read(own)["quantization_config"] as unknown as {
      format: string;
      config_groups: { group_0: { targets: string[]; weights: Record<string, unknown> } };
    };
    t.is(section.format, "pack-quantized");
    const { targets, weights } = section.config_groups.group_0;
    t.true(targets.includes("model.encoder.layers.0.fc1"));
    t.like(weights, { num_bits: Number(/\d/.exec(spec)?.[0]), symmetric: true, strategy: spec.includes("/") ? "group" : "channel" });
    t.deepEqual(weightOf(asOthers(own)), weightOf(own));
    t.is(measureModel(asOthers(own)).linear.bitsPerWeight, 32, "it is float32 to us");
  });
}

test("what other programs could not read is not announced to them", async (t) => {
  t.is(read(await packed("int4+2:4"))["quantization_config"], undefined);
  // Its codes stand for -1 and 1, which none of theirs does.
  t.is(read(await packed("int1"))["quantization_config"], undefined);
  const mixed = join(folder.path, "mixed");
  await compressModel({ model, recipe: roundToNearest("int4", { "model.decoder*": "int8" }), manifest: undefined, out: mixed });
  t.is(read(mixed)["quantization_config"], undefined);
});

for (const spec of ["int8", "int8/g32"]) {
  test(`${spec} is written as int-quantized on demand, to us and to others the same weights as pack-quantized`, async (t) => {
    const words = await packed(spec);
    const bytes = await packed(spec, "int-quantized");
    const section = read(bytes)["quantization_config"] as unknown as {
      format: string;
      config_groups: { group_0: Record<string, unknown> };
    };
    t.is(section.format, "int-quantized");
    t.deepEqual(section.config_groups.group_0["input_activations"], {
      num_bits: 8,
      type: "int",
      symmetric: true,
      strategy: "token",
      dynamic: true,
    });
    {
      using file = readSafetensors(join(bytes, "model.safetensors"));
      t.deepEqual([file.dtype(name), file.shape(name)], ["I8", [64, 48]]);
      t.deepEqual(file.shape(`${name}_scale`), [64, spec === "int8" ? 1 : 2]);
      t.false(file.names().some((tensor) => /_(packed|shape)$/.test(tensor)));
      using other = readSafetensors(join(words, "model.safetensors"));
      const [ours, theirs] = [file, other].map((one) => readPackedWeight(one, name, parseWeightSpec(spec)));
      for (const part of ["packed", "scale"] as const) t.deepEqual(ours?.[part]?.toArray(), theirs?.[part]?.toArray());
    }
    t.deepEqual(weightOf(bytes), weightOf(words));
    t.deepEqual(weightOf(asOthers(bytes)), weightOf(words));
    t.deepEqual(measureModel(bytes).layers, measureModel(words).layers);
    t.deepEqual(
      dryRun({ model, recipe: roundToNearest(spec), manifest: undefined, format: "int-quantized" }).size.layers,
      measureModel(bytes).layers,
    );
  });
}

test("trained weights with scales and activations of their own are written so too", (t) => {
  const { network } = loadModel(model);
  using state = new CompressionState(network.parameters());
  using scale = Tensor.from(new Float32Array(64).fill(0.03), [64, 1]);
  state.update(name, { spec: parseWeightSpec("int8"), scale, activations: "float32" });
  const written = (["pack-quantized", "int-quantized"] as const).map((format) => {
    const to = join(folder.path, String(folders++));
    exportModel(network, { from: model, to, plan: state.plan, state, format });
    return to;
  });
  const [words = "", bytes = ""] = written;
  t.deepEqual(weightOf(bytes), weightOf(words));
  t.true(weightOf(bytes).every((value) => Math.abs(value / 0.03 - Math.round(value / 0.03)) < 1e-5));
  t.deepEqual(read(bytes)["usm_lite"], read(words)["usm_lite"]);
  t.like(read(bytes)["quantization_config"], {
    config_groups: { group_0: { targets: [name.replace(/\.weight$/, "")], input_activations: null } },
  });
});

test("int-quantized says how the inputs of each layer are rounded", (t) => {
  const spec = parseWeightSpec("int8");
  const codings = ["int8", "float32", "int8-asymmetric", "int4"] as const;
  const activations = new Map(codings.map((coding) => [`${coding}.weight`, coding]));
  const specs = new Map([...activations.keys()].map((one) => [one, spec]));
  const groups = (quantizationConfig(specs, { shapeOf: () => [4, 4], format: "int-quantized", activations }) as { config_groups: object })
    .config_groups;
  const inputs = (change: object): object => ({ num_bits: 8, type: "int", symmetric: true, strategy: "token", dynamic: true, ...change });
  t.deepEqual(
    Object.values(groups).map((group: { targets: string[]; input_activations: unknown }) => [group.targets, group.input_activations]),
    [
      [["int8"], inputs({})],
      [["float32"], null],
      [["int8-asymmetric"], inputs({ symmetric: false })],
      [["int4"], inputs({ num_bits: 4 })],
    ],
  );
});

test("a format that cannot hold a weight is one coded error that names it, before anything is written", async (t) => {
  const out = join(folder.path, "refused");
  const refuse = async (
    recipe: Parameters<typeof compressModel>[0]["recipe"],
    format: CompressedTensorsFormat,
    message: RegExp,
  ): Promise<void> => {
    await t.throwsAsync(compressModel({ model, recipe, manifest: undefined, out, format }), { code: "UNSUPPORTED_SPEC", message });
    t.throws(() => dryRun({ model, recipe, manifest: undefined, format }), { code: "UNSUPPORTED_SPEC", message });
    t.false(existsSync(out));
  };
  await refuse(roundToNearest("int4"), "int-quantized", /int-quantized holds .* dense int8 spec, but "model\..*weight" is int4;/);
  await refuse(roundToNearest("int8+2:4"), "int-quantized", /is int8\+2:4;/);
  await refuse(roundToNearest("int8", { "model.decoder*": "int8/g32" }), "int-quantized", /is int8 and "model\.decoder.*" int8\/g32;/);
  await refuse(roundToNearest("uint8"), "int-quantized", /is uint8;/);
  await refuse(roundToNearest("nf4"), "pack-quantized", /pack-quantized holds .* dense int2 to int8 spec, but .* is nf4;/);
  const conformer = writeTinyModel(join(folder.path, "conformer"), { languageModel: false });
  await t.throwsAsync(
    compressModel({ model: conformer, recipe: roundToNearest("int8"), manifest: undefined, out, format: "int-quantized" }),
    { code: "UNSUPPORTED_SPEC", message: /conv1\.weight" is a convolution;/ },
  );
  // Of recipes that train, before they do.
  const manifest = writeTinyCorpus(join(folder.path, "speech"), 1);
  const training = (modifier: object): ReturnType<typeof parseRecipe> =>
    parseRecipe(JSON.stringify({ stages: [{ modifiers: [modifier], training: { steps: 1 } }] }), "r");
  const train = (modifier: object): Promise<boolean> =>
    compressModel({ model: conformer, recipe: training(modifier), manifest, out, format: "int-quantized" });
  await t.throwsAsync(train({ type: "quantization", spec: "int4" }), { code: "UNSUPPORTED_SPEC", message: /is int4;/ });
  await t.throwsAsync(train({ type: "many-sizes", sizes: [{ spec: "int8" }, { spec: "int4" }] }), {
    code: "INVALID_ARGUMENT",
    message: /many-sizes writes models of several specs/,
  });
  t.false(existsSync(`${out}.run`));
});

test("bytes that cannot be what config.json says are refused", async (t) => {
  const own = await packed("int8", "int-quantized");
  const damaged = (
    edit: (weight: { data: Uint8Array; shape: readonly number[]; dtype: string }) => object,
    config: (text: string) => string = (text) => text,
  ): string => {
    const copy = join(folder.path, String(folders++));
    cpSync(own, copy, { recursive: true });
    editWeights(copy, (entries) => entries.set(name, edit(entries.get(name) as never) as never));
    writeFileSync(join(copy, "config.json"), config(readFileSync(join(copy, "config.json"), "utf8")));
    return copy;
  };
  const refuse = (path: string, message: RegExp): void => {
    t.throws(() => loadModel(path), { code: "BAD_CHECKPOINT", message });
  };
  const lowest = (weight: { data: Uint8Array }): object => ({
    ...weight,
    data: Int8Array.from(weight.data, (_, i) => (i === 0 ? -128 : 1)),
  });
  refuse(damaged(lowest), /packed weight "model\.encoder\.layers\.0\.fc1\.weight": .*row 0/);
  refuse(
    damaged((weight) => ({ ...weight, shape: [48, 64], data: new Int8Array(48 * 64) })),
    /fc1\.weight.*48, 64/,
  );
  refuse(
    damaged(
      (weight) => ({ ...weight, data: new Int8Array(48 * 64) }),
      (text) => text.replace('"int8":', '"int4":'),
    ),
    /is I8 of shape \(\d+, \d+\) for int4; only dense int8/,
  );
});

test("int-quantized weights, scales in half precision and codes at the end of the range are read", async (t) => {
  const own = await packed("int8");
  const copy = asOthers(own, (section) => (section["format"] = "int-quantized"));
  const module = name.replace(/\.weight$/, "");
  using file = readSafetensors(join(own, "model.safetensors"));
  const entries: [string, SafetensorsEntry][] = [];
  for (const tensor of file.names()) {
    if (tensor.endsWith("_shape")) continue;
    const data = file.bytes(tensor);
    if (tensor.endsWith("_scale"))
      entries.push([
        tensor,
        { dtype: "BF16", shape: file.shape(tensor), data: Uint16Array.from(new Uint32Array(data.slice().buffer), (bits) => bits >>> 16) },
      ]);
    else if (tensor.endsWith("_packed")) {
      const [rows = 0, words = 0] = file.shape(tensor);
      entries.push([
        tensor.replace("_packed", ""),
        { dtype: "I8", shape: [rows, words * 4], data: Int8Array.from(data, (code) => code - 128) },
      ]);
    } else entries.push([tensor, { dtype: file.dtype(tensor), shape: file.shape(tensor), data }]);
  }
  const codes = entries.find(([tensor]) => tensor === name)?.[1] as unknown as { data: Int8Array };
  codes.data[0] = -128;
  writeSafetensors(join(copy, "model.safetensors"), entries);
  const ours = weightOf(copy);
  const scale = (entries.find(([tensor]) => tensor === `${module}.weight_scale`)?.[1] as unknown as { data: Uint16Array })
    .data[0] as number;
  t.is(ours[0], -128 * (new Float32Array(Uint32Array.of(scale << 16).buffer)[0] as number));
  const exact = weightOf(own);
  ours.slice(1).forEach((value, i) => t.true(Math.abs(value - (exact[i + 1] as number)) <= 0.01 * Math.abs(exact[i + 1] as number)));
});

test("what is not supported is one coded error that names key or tensor", async (t) => {
  const own = await packed("int4");
  interface Section {
    quant_method: string;
    format: string;
    config_groups: Record<string, { weights: Record<string, unknown> }>;
  }
  const refuse = (change: (section: Section) => void, message: RegExp): void => {
    t.throws(() => loadModel(asOthers(own, change as never)), { code: "BAD_CONFIG", message });
  };
  refuse((section) => (section.quant_method = "gptq"), /"quantization_config\.quant_method"/);
  refuse((section) => (section.format = "nvfp4-pack-quantized"), /"quantization_config\.format"/);
  refuse((section) => Object.assign(section.config_groups["group_0"]?.weights as object, { symmetric: false }), /weights\.symmetric/);
  refuse((section) => Object.assign(section.config_groups["group_0"]?.weights as object, { type: "float" }), /weights\.type/);
  refuse((section) => (section.config_groups = {}), /one number of bits/);
  const damaged = asOthers(own);
  editWeights(damaged, (entries) =>
    entries.set(name.replace(/weight$/, "weight_zero_point"), { dtype: "I32", shape: [1], data: new Int32Array(1) } as never),
  );
  t.throws(() => loadModel(damaged), { code: "BAD_CHECKPOINT", message: /weight_zero_point", which is not supported/ });
  const short = asOthers(own);
  editWeights(short, (entries) => entries.set(`${name}_packed`, { dtype: "I32", shape: [64, 5], data: new Int32Array(320) } as never));
  t.throws(() => loadModel(short), { code: "BAD_CHECKPOINT", message: /weight_packed" of shape \(64, 5\) must be \(64, 6\)/ });
  const missing = asOthers(own);
  editWeights(missing, (entries) => entries.delete(`${name}_shape`));
  t.throws(() => loadModel(missing), { code: "BAD_CHECKPOINT", message: /weight_scale" but no ".*weight_shape"/ });
});
