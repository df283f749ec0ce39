import { copyFileSync, existsSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import {
  compressModel,
  loadModel,
  measureModel,
  parseRecipe,
  SequenceOffsets,
  Tensor,
  tidy,
  unpackWeight,
  type SpeechModel,
} from "../lib/index.js";
import { readPackedWeight } from "../lib/checkpoint/packed_weights.js";
import { readSafetensors } from "../lib/checkpoint/safetensors.js";
import { readStageLog } from "../lib/compress/stage_log.js";
import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("one-shot");
test.after.always(folder.clean);
const float = writeTinyModel(join(folder.path, "float"), { languageModel: false });
const manifest = writeTinyCorpus(join(folder.path, "corpus"), 3);

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text");

type Settings = Record<string, unknown>;

const recipe = (...stages: Settings[][]) => parseRecipe(JSON.stringify({ stages: stages.map((modifiers) => ({ modifiers })) }), "r");

const compress = (name: string, ...stages: Settings[][]): Promise<boolean> =>
  compressModel({ model: float, recipe: recipe(...stages), manifest, out: join(folder.path, name) });

const offsets = new SequenceOffsets([90, 41]);
const features = randomValues(offsets.frames * 128, 3).map((value) => 4 * value - 4);
const logitsOf = ({ network }: SpeechModel): Float32Array =>
  tidy(() => (network as LasrForCtc).forward(Tensor.from(features, [offsets.frames, 128]), offsets).logits.toArray());
const original = logitsOf(loadModel(float));

/** Relative mean square of the difference to the float model. */
function errorOf(name: string): number {
  const found = logitsOf(loadModel(join(folder.path, name), { weights: "float32" }));
  let error = 0;
  let power = 0;
  original.forEach((value, i) => {
    error += (value - (found[i] as number)) ** 2;
    power += value ** 2;
  });
  return error / power;
}

const bytesOf = (name: string): Buffer => readFileSync(join(folder.path, name, "model.safetensors"));

const few = { utterances: 3 };
const outputErrors = (name: string): number => {
  const records = readStageLog(join(folder.path, `${name}.run`));
  return records.reduce((sum, { outputError = NaN }) => sum + outputError, 0) / records.length;
};

test.serial("methods that look at speech lose less of the layers' outputs the more they do", async (t) => {
  const spec = "int3+2:4";
  await compress("rtn", [{ type: "round-to-nearest", spec, calibration: few }]);
  await compress("wanda", [{ type: "wanda", spec, calibration: few }]);
  await compress("sparsegpt", [{ type: "sparsegpt", spec, calibration: { ...few, sequential: false } }]);
  await compress("sequential", [{ type: "sparsegpt", spec, calibration: few }]);
  const errors = ["rtn", "wanda", "sparsegpt"].map(outputErrors);
  t.deepEqual(
    [...errors].sort((a, b) => b - a),
    errors,
    errors.join(", "),
  );
  for (const name of ["rtn", "wanda", "sparsegpt", "sequential"]) {
    const size = measureModel(join(folder.path, name));
    t.true(size.layers.every((layer) => layer.spec === spec));
    t.is(readStageLog(join(folder.path, `${name}.run`)).length, size.layers.length);
    t.true(errorOf(name) < 1.5);
  }
  t.false(bytesOf("sparsegpt").equals(bytesOf("sequential")));
});

test.serial("a run repeats to the same bytes, and without speech it is refused", async (t) => {
  await compress("again", [{ type: "sparsegpt", spec: "int3+2:4", calibration: few }]);
  t.true(bytesOf("again").equals(bytesOf("sequential")));
  const gptq = recipe([{ type: "gptq", spec: "int4" }]);
  await t.throwsAsync(compressModel({ model: float, recipe: gptq, manifest: undefined, out: join(folder.path, "none") }), {
    code: "INVALID_ARGUMENT",
    message: /needs --data/,
  });
});

test.serial("stages: masks by Wanda, then GPTQ keeps them and takes over their spec; what the file holds was solved for", async (t) => {
  await compress("both", [{ type: "wanda", spec: "int4/g32+2:4", calibration: few }], [{ type: "gptq", calibration: few }]);
  await compress("wanda alone", [{ type: "wanda", spec: "int4/g32+2:4", calibration: few }]);
  const maskOf = (name: string, weight: string): Uint8Array => {
    using file = readSafetensors(join(folder.path, name, "model.safetensors"));
    const { specs } = loadModel(join(folder.path, name)).compression;
    return unpackWeight(readPackedWeight(file, weight, specs.get(weight) as never)).mask.toArray() as unknown as Uint8Array;
  };
  for (const { name } of measureModel(join(folder.path, "both")).layers)
    t.deepEqual(maskOf("both", name), maskOf("wanda alone", name), name);
  t.true(errorOf("both") < errorOf("wanda alone"));
  t.deepEqual(
    [...new Set(readStageLog(join(folder.path, "both.run")).map(({ stage, modifier }) => `${stage} ${modifier}`))],
    ["stage-1 wanda", "stage-2 gptq"],
  );
});

test.serial("mixed precision fits the budget, and the stages after it take its specs", async (t) => {
  const specs = ["int8", "int4", "int2"];
  for (const [sensitivity, targets] of [
    ["output-error", undefined],
    ["loss", ["encoder.layers.1.self_attn.*"]],
  ] as const) {
    const name = `mixed ${sensitivity}`;
    await compress(name, [
      { type: "mixed-precision", specs, budget: "14%", sensitivity, targets, calibration: few },
      { type: "gptq", targets, calibration: few },
    ]);
    const layers = measureModel(join(folder.path, name)).layers.filter(({ spec }) => spec !== "float32");
    const total = (key: "bytes" | "weights"): number => layers.reduce((sum, layer) => sum + layer[key], 0);
    t.true(total("bytes") <= 0.14 * 4 * total("weights"));
    t.is(layers.length, targets ? 4 : 20);
    t.true(new Set(layers.map(({ spec }) => spec)).size > 1);
    const chosen = JSON.parse(readFileSync(join(folder.path, `${name}.run`, "chosen_specs.json"), "utf8")) as Record<
      string,
      Record<string, string>
    >;
    t.deepEqual(Object.fromEntries(layers.map((layer) => [layer.name, layer.spec])), chosen["stage-1"]);
  }
  await compress(
    "mixed alone",
    [{ type: "mixed-precision", specs, budget: "14%", calibration: few }],
    [{ type: "gptq", calibration: few }],
  );
  t.true(bytesOf("mixed alone").equals(bytesOf("mixed output-error")), "one stage or two");
  // As after a kill between the stages: the first is not done again.
  const before = bytesOf("mixed alone");
  rmSync(join(folder.path, "mixed alone"), { recursive: true });
  const said: string[] = [];
  const settings = recipe([{ type: "mixed-precision", specs, budget: "14%", calibration: few }], [{ type: "gptq", calibration: few }]);
  await compressModel({
    model: float,
    recipe: settings,
    manifest,
    out: join(folder.path, "mixed alone"),
    onStatus: (sentence) => said.push(sentence),
  });
  t.true(bytesOf("mixed alone").equals(before));
  t.false(said.join("\n").includes("chosen specs"));
  // As after a kill within a stage that has chosen specs: what comes before the choice must not know of it.
  const targets = ["encoder.layers.1.self_attn.*"];
  const within: Settings[] = [
    { type: "wanda", spec: "int8+2:4", targets, calibration: few },
    { type: "mixed-precision", specs: ["int4+1:4", "int4+2:4"], budget: "8%", targets, calibration: few },
  ];
  await compress("mixed masks", within);
  const masked = bytesOf("mixed masks");
  rmSync(join(folder.path, "mixed masks"), { recursive: true });
  await compress("mixed masks", within);
  t.true(bytesOf("mixed masks").equals(masked));
  await t.throwsAsync(compress("mixed small", [{ type: "mixed-precision", specs, budget: 100 }]), {
    code: "INVALID_ARGUMENT",
    message: /smallest specs take/,
  });
});

test.serial("low rank keeps products, and says what factors would take", async (t) => {
  const said: string[] = [];
  const lowRank = recipe([{ type: "low-rank", share: 0.5, factors: "int8", calibration: { utterances: 2 } }]);
  await compressModel({
    model: float,
    recipe: lowRank,
    manifest,
    out: join(folder.path, "low rank"),
    onStatus: (sentence) => said.push(sentence),
  });
  t.regex(said.join("\n"), /as int8 factors these layers would take \d+ bytes, (4\d|50)\.\d\d % of float32/);
  const features = readdirSync(join(folder.path, "low rank.run", "features"), { recursive: true, withFileTypes: true });
  t.is(features.filter((entry) => entry.isFile()).length, 2, "of the utterances that are drawn, and of no others");
  t.is(loadModel(join(folder.path, "low rank")).compression.specs.size, 0);
  t.true(errorOf("low rank") < 0.2 && errorOf("low rank") > 0);
});

test.serial("families that can be trained are calibrated too, with layers outside of blocks", async (t) => {
  const encoder = {
    hidden_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 32,
    subsampling_conv_channels: 8,
    num_mel_bins: 80,
  };
  const config = { model_type: "parakeet_rnnt", vocab_size: 61, blank_token_id: 60, decoder_hidden_size: 16, encoder_config: encoder };
  const model = writeRandomModel(
    join(folder.path, "parakeet"),
    config,
    { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 80 },
    {},
  );
  copyFileSync(join(fixtures, "tokenizer_metaspace.json"), join(model, "tokenizer.json"));
  const out = join(folder.path, "parakeet-out");
  const targets = ["encoder.layers.*", "decoder.lstm.*", "encoder_projector"];
  await compressModel({ model, recipe: recipe([{ type: "sparsegpt", spec: "int4+2:4", targets, calibration: few }]), manifest, out });
  const sparse = measureModel(out)
    .layers.filter(({ spec }) => spec === "int4+2:4")
    .map(({ name }) => name);
  t.deepEqual(
    sparse.sort(),
    readStageLog(`${out}.run`)
      .map(({ layer }) => layer)
      .sort(),
  );
  t.true(sparse.includes("decoder.lstm.weight_hh_l1") && sparse.includes("encoder_projector.weight"));
});

test.serial("what is wrong is named", async (t) => {
  const refuse = (stages: Settings[][], message: RegExp, code = "BAD_RECIPE") =>
    t.throwsAsync((async () => compress("refused", ...stages))(), { code, message });
  await refuse([[{ type: "gptq" }]], /r:\d+: gptq of "encoder.*spec is float32; this modifier needs a number format/s);
  await refuse([[{ type: "sparsegpt", spec: "int4" }]], /needs a spec with N:M/);
  await refuse([[{ type: "wanda", spec: "int4" }]], /needs a spec with N:M.*or the key unstructured/);
  await refuse([[{ type: "wanda", spec: "int4+2:4", unstructured: 0.5 }]], /needs a dense spec/);
  await refuse([[{ type: "gptq", spec: "int4", damping: 0 }]], /key "stages\.0\.modifiers\.0\.damping"/);
  await refuse([[{ type: "mixed-precision", specs: ["int8"], budget: "10%" }]], /specs/);
  await refuse([[{ type: "mixed-precision", specs: ["int8", "int4"], budget: "much" }]], /budget/);
  await refuse([[{ type: "low-rank", share: 2 }]], /share/);
  await refuse(
    [[{ type: "gptq", spec: "int4", targets: ["*.conv_0"], calibration: few }]],
    /no input of "encoder\.subsampler\.conv_0\.weight"/,
    "INVALID_ARGUMENT",
  );
  t.false(existsSync(join(folder.path, "refused")));
});
