import { cpSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { compressModel, loadModel, measureModel, readSafetensors, writeSafetensors, type SafetensorsEntry } from "../lib/index.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { editWeights, temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("compressed-tensors");
test.after.always(folder.clean);

const config = { model_type: "whisper", vocab_size: 320, d_model: 48, encoder_layers: 1, encoder_attention_heads: 2, encoder_ffn_dim: 64, decoder_layers: 1, decoder_attention_heads: 2, decoder_ffn_dim: 64, max_source_positions: 50, max_target_positions: 16, eos_token_id: 300, decoder_start_token_id: 310 };
const model = writeRandomModel(join(folder.path, "float"), config, { feature_extractor_type: "WhisperFeatureExtractor", chunk_length: 1 });
let folders = 0;

async function packed(spec: string): Promise<string> {
  const out = join(folder.path, String(folders++));
  await compressModel({ model, recipe: roundToNearest(spec), manifest: undefined, out });
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
const weightOf = (path: string): number[] => [...(loadModel(path, { weights: "float32" }).network.parameters().get(name)?.toArray() as Float32Array)];

for (const spec of ["int8", "int4", "int3", "int5", "int4/g32"]) {
  test(`${spec} is written so that compressed-tensors reads it, and read from that alone`, async (t) => {
    const own = await packed(spec);
    const section = read(own)["quantization_config"] as unknown as { format: string; config_groups: { group_0: { targets: string[]; weights: Record<string, unknown> } } };
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
  const mixed = join(folder.path, "mixed");
  await compressModel({ model, recipe: roundToNearest("int4", { "model.decoder*": "int8" }), manifest: undefined, out: mixed });
  t.is(read(mixed)["quantization_config"], undefined);
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
    if (tensor.endsWith("_scale")) entries.push([tensor, { dtype: "BF16", shape: file.shape(tensor), data: Uint16Array.from(new Uint32Array(data.slice().buffer), (bits) => bits >>> 16) }]);
    else if (tensor.endsWith("_packed")) {
      const [rows = 0, words = 0] = file.shape(tensor);
      entries.push([tensor.replace("_packed", ""), { dtype: "I8", shape: [rows, words * 4], data: Int8Array.from(data, (code) => code - 128) }]);
    } else entries.push([tensor, { dtype: file.dtype(tensor), shape: file.shape(tensor), data }]);
  }
  const codes = entries.find(([tensor]) => tensor === name)?.[1] as unknown as { data: Int8Array };
  codes.data[0] = -128;
  writeSafetensors(join(copy, "model.safetensors"), entries);
  const ours = weightOf(copy);
  const scale = (entries.find(([tensor]) => tensor === `${module}.weight_scale`)?.[1] as unknown as { data: Uint16Array }).data[0] as number;
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
  editWeights(damaged, (entries) => entries.set(name.replace(/weight$/, "weight_zero_point"), { dtype: "I32", shape: [1], data: new Int32Array(1) } as never));
  t.throws(() => loadModel(damaged), { code: "BAD_CHECKPOINT", message: /weight_zero_point", which is not supported/ });
  const short = asOthers(own);
  editWeights(short, (entries) => entries.set(`${name}_packed`, { dtype: "I32", shape: [64, 5], data: new Int32Array(320) } as never));
  t.throws(() => loadModel(short), { code: "BAD_CHECKPOINT", message: /weight_packed" of shape \(64, 5\) must be \(64, 6\)/ });
  const missing = asOthers(own);
  editWeights(missing, (entries) => entries.delete(`${name}_shape`));
  t.throws(() => loadModel(missing), { code: "BAD_CHECKPOINT", message: /weight_scale" but no ".*weight_shape"/ });
});
