import { cpSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { frontEndOf, frontEnds } from "../lib/audio/family_front_ends.js";
import { compressModel, loadModel, measureModel, Recognizer, UsmLiteError } from "../lib/index.js";
import { families } from "../lib/models/families.js";
import { roundToNearest } from "./recipes.js";
import { editJson, editWeights, temporaryFolder, tones, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("loading");
test.after.always(folder.clean);

const float = writeTinyModel(join(folder.path, "float"));
const packed = join(folder.path, "packed");
test.before(async () => {
  await compressModel({ model: float, recipe: roundToNearest("int4+2:4"), manifest: undefined, out: packed });
});

const qProjection = "encoder.layers.0.self_attn.q_proj.weight";
let copies = 0;

/** A copy of a model folder to damage. */
function copyOf(model: string): string {
  const copy = join(folder.path, `copy${copies++}`);
  cpSync(model, copy, { recursive: true });
  return copy;
}

test("a model without tokenizer or language model loads; text needs the tokenizer", (t) => {
  const model = copyOf(float);
  rmSync(join(model, "language_model.bin"));
  t.is(new Recognizer(loadModel(model)).transcribe(tones(1, 1)).duration, 1);
  rmSync(join(model, "tokenizer.json"));
  const loaded = loadModel(model);
  t.is(loaded.tokenizer, undefined);
  t.throws(() => new Recognizer(loaded), { code: "BAD_TOKENIZER", message: /has no tokenizer\.json/ });
});

test("missing files are named", (t) => {
  t.throws(() => loadModel(join(folder.path, "none")), { code: "FILE_NOT_FOUND", message: /none does not exist/ });
  t.throws(() => loadModel(join(float, "config.json")), {
    code: "FILE_UNREADABLE",
    message: /config\.json is a file, no model; name a folder/,
  });
  for (const file of ["config.json", "model.safetensors", "preprocessor_config.json"]) {
    const model = copyOf(float);
    rmSync(join(model, file));
    t.throws(() => loadModel(model), { code: "FILE_NOT_FOUND", message: new RegExp(file) });
  }
});

test("options that do not exist are refused with those that do, before anything is read", (t) => {
  const refuse = (options: object, message: string): void => {
    t.throws(() => loadModel(join(folder.path, "none"), options), { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT", message });
  };
  refuse({ device: "gpu" }, 'device "gpu" is unknown; choose auto, cpu, cuda');
  refuse({ device: null }, "device null is unknown; choose auto, cpu, cuda");
  refuse({ weights: "float" }, 'weights "float" is unknown; choose packed, float32');
  refuse({ arithmetic: "int4" }, 'arithmetic "int4" is unknown; choose bfloat16, int8');
  const asIfAbsent: object = { device: undefined, weights: undefined, arithmetic: undefined };
  t.is(loadModel(float, asIfAbsent).device, "cpu");
});

test("a configuration that the network cannot honour is refused by key", (t) => {
  const refuse = (edit: Parameters<typeof editJson>[1], code: string, message: RegExp): void => {
    const model = copyOf(float);
    editJson(join(model, "config.json"), edit);
    t.throws(() => loadModel(model), { instanceOf: UsmLiteError, code, message });
  };
  const encoder = (key: string, value: never | number | string, message: RegExp): void =>
    refuse(
      (json) => ((json["encoder_config"] as Record<string, unknown>)[key] = value),
      message.source.startsWith("key") ? "BAD_CONFIG" : "BAD_CHECKPOINT",
      message,
    );
  refuse(
    (json) => (json["model_type"] = "wavlm"),
    "UNSUPPORTED_MODEL",
    /config\.json: model_type "wavlm" is not supported; these are: lasr_ctc, parakeet_ctc/,
  );
  refuse((json) => delete json["model_type"], "UNSUPPORTED_MODEL", /model_type undefined/);
  refuse((json) => (json["pad_token_id"] = 31), "BAD_CONFIG", /config\.json: key "pad_token_id" must be below vocab_size/);
  refuse((json) => (json["vocab_size"] = "many"), "BAD_CONFIG", /key "vocab_size"/);
  encoder("dropout_positions", 0.1, /key "encoder_config\.dropout_positions" must be 0/);
  encoder("hidden_act", "gelu", /key "encoder_config\.hidden_act": .*"silu"/);
  encoder("num_key_value_heads", 1, /key "encoder_config\.num_key_value_heads" must equal num_attention_heads/);
  encoder("num_attention_heads", 3, /key "encoder_config\.hidden_size" must be divisible/);
  encoder("num_attention_heads", 32, /key "encoder_config\.num_attention_heads" must give heads of an even size/);
  encoder("hidden_size", -32, /key "encoder_config\.hidden_size"/);
  encoder("conv_residual_weights", [1e308, 1] as never, /key "encoder_config\.conv_residual_weights\.0"/);
  encoder("layer_norm_eps", 2, /key "encoder_config\.layer_norm_eps"/);
  encoder("conv_kernel_size", 1.5, /key "encoder_config\.conv_kernel_size"/);
  encoder("num_hidden_layers", 3, /model\.safetensors has no tensor "encoder\.layers\.2\./);
  encoder("num_hidden_layers", 1, /model\.safetensors: \d+ tensors have no place .*"encoder\.layers\.1\./);
  encoder("num_mel_bins", 80, /"encoder\.subsampler\.dense_0\.weight" has shape \(\d+, 128\) but config\.json asks for \(\d+, 80\)/);
});

test("every family of networks has its front end, and no other name has one", (t) => {
  t.deepEqual(Object.keys(frontEnds).sort(), Object.keys(families).sort());
  for (const type of ["conformer", "toString", undefined]) {
    const error = t.throws(() => frontEndOf({ model_type: type as never }, {}, "preprocessor_config.json"), { instanceOf: UsmLiteError });
    t.is(error?.code, "UNSUPPORTED_MODEL");
  }
});

test("the front end, tokenizer and language model must belong to the network", (t) => {
  const preprocessor = copyOf(float);
  editJson(join(preprocessor, "preprocessor_config.json"), (json) => (json["feature_size"] = 80));
  t.throws(() => loadModel(preprocessor), { code: "BAD_CONFIG", message: /feature_size is 80 but config\.json has num_mel_bins 128/ });

  const tokenizer = copyOf(float);
  editJson(join(tokenizer, "tokenizer.json"), (json) => (json["model"] as { vocab: unknown[] }).vocab.push(["ING", -3]));
  const loaded = loadModel(tokenizer);
  t.throws(() => new Recognizer(loaded), { code: "BAD_TOKENIZER", message: /has 32 tokens but config\.json has vocab_size 31/ });

  const languageModel = copyOf(float);
  writeFileSync(join(languageModel, "language_model.bin"), "nonsense");
  t.throws(() => loadModel(languageModel), { code: "BAD_LANGUAGE_MODEL", message: /language_model\.bin/ });
});

test("weights must be complete, of the right shape and of a float type", (t) => {
  const refuse = (edit: Parameters<typeof editWeights>[1], message: RegExp): void => {
    const model = copyOf(float);
    editWeights(model, edit);
    t.throws(() => loadModel(model), { instanceOf: UsmLiteError, code: "BAD_CHECKPOINT", message });
  };
  refuse((entries) => entries.delete(qProjection), /model\.safetensors has no tensor "encoder\.layers\.0\.self_attn\.q_proj\.weight"/);
  refuse(
    (entries) => entries.set("extra.weight", { dtype: "F32", shape: [1], data: new Float32Array(1) }),
    /1 tensors have no place .* "extra\.weight"/,
  );
  refuse(
    (entries) => entries.set(qProjection, { dtype: "F32", shape: [16, 64], data: new Float32Array(1024) }),
    /q_proj\.weight" has shape \(16, 64\) but config\.json asks for \(32, 32\)/,
  );
  refuse(
    (entries) => entries.set(qProjection, { dtype: "I32", shape: [32, 32], data: new Int32Array(1024) }),
    /q_proj\.weight" has dtype I32; weights must be F32, F16 or BF16/,
  );
  refuse(
    (entries) => entries.set(qProjection, { dtype: "F8_E4M3", shape: [32, 32], data: new Uint8Array(1024) }),
    /q_proj\.weight" has dtype F8_E4M3/,
  );
  for (const value of [NaN, Infinity, -Infinity]) {
    const found = new RegExp(`model\\.safetensors: value 5 of tensor ".*q_proj\\.weight" is ${value}; weights must be finite`);
    refuse((entries) => new DataView(entries.get(qProjection)?.data.buffer as ArrayBuffer).setFloat32(20, value, true), found);
  }
  const ignored = copyOf(float);
  editWeights(ignored, (entries) =>
    entries.set("encoder.layers.0.conv.norm.num_batches_tracked", { dtype: "I64", shape: [], data: new BigInt64Array(1) }),
  );
  t.notThrows(() => loadModel(ignored));
  const truncated = copyOf(float);
  const path = join(truncated, "model.safetensors");
  writeFileSync(path, readFileSync(path).subarray(0, -5));
  t.throws(() => loadModel(truncated), { code: "BAD_CHECKPOINT", message: /model\.safetensors/ });
});

test("weights too large to compute with are an error when something is heard, with either search", (t) => {
  const model = copyOf(float);
  editWeights(model, (entries) => entries.set("ctc_head.bias", { dtype: "F32", shape: [31], data: new Float32Array(31).fill(3e38) }));
  editWeights(model, (entries) =>
    entries.set("encoder.out_norm.weight", { dtype: "F32", shape: [32], data: new Float32Array(32).fill(3e38) }),
  );
  for (const decoder of ["greedy", "beam"] as const) {
    const recognizer = new Recognizer(loadModel(model), { decoder });
    t.throws(() => recognizer.transcribe(tones(1, 1)), {
      instanceOf: UsmLiteError,
      code: "BAD_CHECKPOINT",
      message: /scores of frame 0 of a chunk are not numbers/,
    });
  }
});

test("packed weights that were tampered with are refused by name, packed or unpacked", (t) => {
  const refuse = (edit: Parameters<typeof editWeights>[1], message: RegExp): void => {
    const model = copyOf(packed);
    editWeights(model, edit);
    for (const weights of ["packed", "float32"] as const) {
      const error = t.throws(() => loadModel(model, { weights }), { instanceOf: UsmLiteError, code: "BAD_CHECKPOINT", message });
      t.regex(error?.message ?? "", /model\.safetensors.*encoder\.layers\.0\.self_attn\.q_proj\.weight/);
    }
  };
  const bytesOf = (entries: Map<string, { data: ArrayBufferView }>, suffix: string): Uint8Array =>
    entries.get(qProjection + suffix)?.data as Uint8Array;
  refuse((entries) => (bytesOf(entries, "_mask")[0] = 216), /mask/); // digits of base six end at 215
  refuse((entries) => bytesOf(entries, "_scale").set(new Uint8Array(Float32Array.of(NaN).buffer)), /scale/);
  refuse((entries) => bytesOf(entries, "_scale").set(new Uint8Array(Float32Array.of(-1).buffer)), /scale/);
  refuse((entries) => (bytesOf(entries, "_packed")[0] = 0), /code/); // -8 does not occur
  refuse((entries) => entries.delete(`${qProjection}_mask`), /has no tensor .*_mask", which int4\+2:4 needs/);
  refuse((entries) => entries.delete(`${qProjection}_shape`), /has no tensor .*_shape"/);
  refuse(
    (entries) => entries.set(`${qProjection}_shape`, { dtype: "I64", shape: [2], data: BigInt64Array.of(64n, 16n) }),
    /has shape \(64, 16\)/,
  );
  refuse((entries) => entries.set(`${qProjection}_shape`, { dtype: "I64", shape: [2], data: BigInt64Array.of(2n ** 40n, 1n) }), /_shape/);
  refuse((entries) => entries.set(`${qProjection}_packed`, { dtype: "U8", shape: [3], data: new Uint8Array(3) }), /needs|bytes|size/);
  refuse((entries) => entries.set(`${qProjection}_scale`, { dtype: "U8", shape: [32, 1], data: new Uint8Array(32) }), /scale/);
});

test("the usm_lite section must fit this version and the network", (t) => {
  const refuse = (edit: (section: Record<string, unknown>) => void, code: string, message: RegExp): void => {
    const model = copyOf(packed);
    editJson(join(model, "config.json"), (json) => edit(json["usm_lite"] as Record<string, unknown>));
    t.throws(() => loadModel(model), { instanceOf: UsmLiteError, code, message });
  };
  const weights = (section: Record<string, unknown>): Record<string, string[]> => section["weights"] as Record<string, string[]>;
  refuse(
    (section) => (section["format_version"] = 2),
    "BAD_CONFIG",
    /config\.json: key "usm_lite\.format_version" is 2; this version of usm-lite reads 1/,
  );
  refuse((section) => ((section["format_version"] = 2), (section["new_key"] = 1)), "BAD_CONFIG", /format_version" is 2/);
  refuse((section) => (section["new_key"] = 1), "BAD_CONFIG", /config\.json: key "usm_lite": .*"new_key"/);
  refuse((section) => (section["weights"] = []), "BAD_CONFIG", /key "usm_lite\.weights"/);
  refuse((section) => (weights(section)["int7"] = []), "UNSUPPORTED_SPEC", /config\.json: key "usm_lite\.weights": .*int7/);
  refuse((section) => (weights(section)["int8"] = [qProjection]), "BAD_CONFIG", /has two specs/);
  refuse(
    (section) => weights(section)["int4+2:4"]?.push("encoder.layers.9.none.weight"),
    "BAD_CHECKPOINT",
    /"encoder\.layers\.9\.none\.weight" a weight spec/,
  );
  refuse(
    (section) => weights(section)["int4+2:4"]?.push("encoder.out_norm.weight"),
    "BAD_CHECKPOINT",
    /"encoder\.out_norm\.weight" a weight spec/,
  );
  refuse((section) => weights(section)["int4+2:4"]?.shift(), "BAD_CHECKPOINT", /has no tensor/);
});

test("inspect needs configuration and weights", (t) => {
  t.throws(() => measureModel(join(folder.path, "none")), { code: "FILE_NOT_FOUND" });
  const model = copyOf(packed);
  rmSync(join(model, "model.safetensors"));
  t.throws(() => measureModel(model), { code: "FILE_NOT_FOUND", message: /model\.safetensors/ });
});
