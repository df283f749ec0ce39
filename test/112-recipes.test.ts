import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { parameterSettings } from "../lib/compress/fine_tuning.js";
import {
  compressModel,
  loadModel,
  measureModel,
  parseRecipe,
  readRecipe,
  readSafetensors,
  resolveSpecs,
  writeSafetensors,
  type SafetensorsEntry,
} from "../lib/index.js";
import { trainableNetwork } from "../lib/models/trainable.js";
import { temporaryFolder, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("recipes");
test.after.always(folder.clean);
const float = writeTinyModel(join(folder.path, "float"));
const manifest = writeTinyCorpus(join(folder.path, "corpus"), 4);
const training = { steps: 2, warmUpSteps: 1, batchSeconds: 5, speedPerturbation: false, features: join(folder.path, "features") };

const compress = async (name: string, stages: readonly object[]): Promise<string> => {
  const out = join(folder.path, name);
  const completed = await compressModel({ model: float, recipe: parseRecipe(JSON.stringify({ stages }), "r.yaml"), manifest, out });
  if (!completed) throw new Error("the run was stopped");
  return out;
};
const weightsOf = (path: string): Map<string, Float32Array> =>
  new Map([...loadModel(path, { weights: "float32" }).network.parameters()].map(([name, tensor]) => [name, tensor.toArray()]));

const layer = "encoder.layers.0.self_attn.q_proj.weight";
const levels = (values: Float32Array): number => new Set(values.subarray(0, 32).map((x) => Math.round(1e6 * x))).size;

test("the patterns of all recipes for this family name layers and parameters", (t) => {
  const place = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "recipes");
  const model = trainableNetwork(loadModel(float));
  for (const file of readdirSync(place).filter((name) => !name.includes("rnnt"))) {
    const recipe = readRecipe(join(place, file));
    t.true(resolveSpecs(recipe, model).size > 0, file);
    for (const stage of recipe.stages) t.notThrows(() => parameterSettings(stage, model), file);
  }
});

test.serial("what each method trained is what is packed", async (t) => {
  const methods: [string, object, number][] = [
    ["edge", { spec: "int2", scale: "edge" }, 3],
    ["learned", { spec: "int3", learned: true }, 7],
    ["threshold", { spec: "ternary", scale: "threshold" }, 3],
    ["centred", { spec: "int1", scale: "centred" }, 2],
    ["asymmetric", { spec: "uint2", clip: 0.6, scaleAverage: 0.5 }, 4],
    ["noise", { spec: "int4", rounding: "noise", scaleDecay: 1e-3 }, 15],
  ];
  for (const [name, settings, most] of methods) {
    const out = await compress(name, [{ modifiers: [{ type: "quantization", ...settings }], training }]);
    const values = weightsOf(out).get(layer) as Float32Array;
    const found = levels(values);
    t.true(found > 1 && found <= most, `${name}: ${found}`);
  }
});

test.serial("stages hand on masks and scales: a mask of the first is that of the last", async (t) => {
  const rounded = { modifiers: [{ type: "round-to-nearest", spec: "int4+2:4" }] };
  const once = weightsOf(await compress("once", [rounded])).get(layer) as Float32Array;
  const tuned = await compress("tuned", [rounded, { name: "tune", modifiers: [{ type: "quantization", spec: "int8" }], training }]);
  const twice = weightsOf(tuned).get(layer) as Float32Array;
  t.is(new Map(measureModel(tuned).layers.map(({ name, spec }) => [name, spec])).get(layer), "int8+2:4");
  once.forEach((value, i) => t.true(value === 0 || twice[i] !== 0 || Math.abs(value) < 1e-3));
  t.true(twice.filter((x) => x === 0).length >= twice.length / 2);
  t.notDeepEqual(twice, once);
});

test.serial("a later stage keeps what an earlier one rounded, and may learn its scales", async (t) => {
  const rounded = { name: "round", modifiers: [{ type: "round-to-nearest", spec: "int3", clip: 0.7 }] };
  const scales = (path: string): number[] => {
    using file = readSafetensors(join(path, "model.safetensors"));
    return [...file.values(`${layer}_scale`)];
  };
  const once = scales(await compress("round", [rounded]));
  // Learning rates so small that no weight leaves its level.
  const slow = { ...training, learningRate: 1e-12 };
  t.deepEqual(scales(await compress("implicit", [rounded, { name: "tune", modifiers: [], training: slow }])), once);
  t.deepEqual(
    scales(await compress("kept", [rounded, { name: "tune", modifiers: [{ type: "quantization", scale: "kept" }], training: slow }])),
    once,
  );
  t.notDeepEqual(scales(await compress("anew", [rounded, { name: "tune", modifiers: [{ type: "quantization" }], training: slow }])), once);
  const learned = { type: "quantization", scale: "kept", learned: true };
  const found = scales(
    await compress("learned-on", [rounded, { name: "tune", modifiers: [learned], training: { ...training, learningRate: 1e-5 } }]),
  );
  t.notDeepEqual(found, once);
  found.forEach((scale, i) => t.true(Math.abs(scale - (once[i] as number)) < 1e-3));
});

test.serial("a run of several stages that is stopped in the second goes on to the same bytes", async (t) => {
  const stages = [
    { name: "round", modifiers: [{ type: "round-to-nearest", spec: "int4+2:4", clipSearch: {} }] },
    { name: "learn", modifiers: [{ type: "quantization", scale: "kept", learned: true, activations: "int8" }], training },
    { name: "average", modifiers: [{ type: "quantization", scaleAverage: 0.5 }], training: { ...training, steps: 4, emaDecay: 0.5 } },
  ];
  const whole = await compress("whole", stages);
  const out = join(folder.path, "stopped");
  const recipe = parseRecipe(JSON.stringify({ stages }), "r.yaml");
  const first = compressModel({ model: float, recipe, manifest, out });
  const stop = setInterval(() => {
    if (existsSync(join(`${out}.run`, "average", "metrics.jsonl"))) process.emit("SIGTERM");
  }, 1);
  const completed = await first;
  clearInterval(stop);
  t.false(completed);
  t.deepEqual(
    readdirSync(`${out}.run`).filter((name) => name.endsWith(".safetensors")),
    ["1-round.safetensors", "2-learn.safetensors"],
  );
  t.true(await compressModel({ model: float, recipe, manifest, out }));
  t.deepEqual(readFileSync(join(out, "model.safetensors")), readFileSync(join(whole, "model.safetensors")));
  t.deepEqual(readFileSync(join(out, "config.json")), readFileSync(join(whole, "config.json")));
});

test.serial("what a run left is checked when it goes on", async (t) => {
  const stages = [
    { name: "round", modifiers: [{ type: "round-to-nearest", spec: "int4" }] },
    { name: "learn", modifiers: [{ type: "quantization", spec: "int4" }], training },
  ];
  const out = join(folder.path, "damaged");
  const recipe = parseRecipe(JSON.stringify({ stages }), "r.yaml");
  await compressModel({ model: float, recipe, manifest, out });
  rmSync(out, { recursive: true });
  const stage = join(`${out}.run`, "1-round.safetensors");
  const refuse = (code: string, message: RegExp): Promise<unknown> =>
    t.throwsAsync(compressModel({ model: float, recipe, manifest, out }), { code, message });
  const entries = (() => {
    using file = readSafetensors(stage);
    return file
      .names()
      .map((name): [string, SafetensorsEntry] => [name, { dtype: file.dtype(name), shape: file.shape(name), data: file.bytes(name) }]);
  })();
  writeSafetensors(stage, entries, { activations: "{" });
  await refuse("BAD_CHECKPOINT", /1-round\.safetensors is not valid JSON/);
  writeSafetensors(stage, entries, { activations: `{"${layer}": "int5"}` });
  await refuse("BAD_CHECKPOINT", /1-round\.safetensors: key .*int8.*delete the folder of the run/);
  writeFileSync(join(`${out}.run`, "chosen_specs.json"), '{"round": null}');
  await refuse("BAD_CONFIG", /chosen_specs\.json: key "round".*delete the folder of the run/);
});

test.serial("learning rates differ where the recipe says so", async (t) => {
  const still = { targets: ["*"], scale: 1e-12 };
  const faster = { targets: ["encoder.layers.1.*"], scale: 1 };
  const out = await compress("rates", [{ modifiers: [], training: { ...training, weightDecay: 0, learningRates: [still, faster] } }]);
  const [before, after] = [weightsOf(float), weightsOf(out)];
  for (const [name, values] of after) {
    const moved = Math.max(...values.map((value, i) => Math.abs(value - (before.get(name)?.[i] as number))));
    if (name.startsWith("encoder.layers.1.")) t.true(moved > 1e-6, `${name} ${moved}`);
    else t.true(moved < 1e-8, `${name} ${moved}`);
  }
});

test.serial("what was pruned in training is gone for the stages after it", async (t) => {
  const pruned = { name: "prune", modifiers: [{ type: "sparsity", pattern: "2:4" }], training };
  const out = await compress("pruned-first", [
    pruned,
    { name: "solve", modifiers: [{ type: "gptq", spec: "int8", calibration: { utterances: 2 } }] },
  ]);
  const records = readFileSync(join(`${out}.run`, "layers.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => JSON.parse(line) as { stage: string; layer: string; weightError: number });
  const errorIn = (stage: string): number =>
    records.find((record) => record.stage === stage && record.layer === layer)?.weightError as number;
  // GPTQ would make up for half of the weights if they were still there.
  t.true(errorIn("prune") > 0.05 && errorIn("solve") < 1e-3, `${errorIn("prune")}, then ${errorIn("solve")}`);
});

test.serial("what is frozen comes out as it went in, and an unstructured share is zero", async (t) => {
  const out = await compress("frozen", [
    {
      modifiers: [{ type: "sparsity", pattern: "50%", targets: [layer.replace(".weight", "")] }],
      training: { ...training, freeze: ["*norm*", "ctc_head*"], learningRates: [{ targets: ["re:.*conv.*"], scale: 0.1 }] },
    },
  ]);
  const [before, after] = [weightsOf(float), weightsOf(out)];
  for (const name of ["ctc_head.weight", "encoder.out_norm.weight"]) t.deepEqual(after.get(name), before.get(name), name);
  t.notDeepEqual(after.get("encoder.layers.1.self_attn.q_proj.weight"), before.get("encoder.layers.1.self_attn.q_proj.weight"));
  const values = after.get(layer) as Float32Array;
  t.is(values.filter((x) => x === 0).length, values.length / 2);
  using file = readSafetensors(join(out, "model.safetensors"));
  t.true(file.has(layer), "no packed format holds a mask without structure");
});

test.serial("what a recipe asks for and cannot be is named with its line", async (t) => {
  const refuse = async (modifiers: readonly object[], message: RegExp): Promise<void> =>
    void (await t.throwsAsync(compress("refused", [{ modifiers, training }]), { message }));
  await refuse([{ type: "quantization", spec: "int4", scale: "threshold" }], /r\.yaml:1: quantization: .*threshold is for ternary/);
  await refuse([{ type: "quantization", spec: "int4", start: 2 }], /start must be below the steps of training, 2/);
  await refuse(
    [
      { type: "quantization", spec: "uint4" },
      { type: "sparsity", pattern: "50%" },
    ],
    /uint4 has no zero/,
  );
  await refuse([{ type: "sparsity", pattern: "2:4", score: "wanda" }], /r\.yaml:1: sparsity: wanda .* start must be at least 1/);
  await refuse([{ type: "quantization", spec: "int4", scale: "kept" }], /quantization: the stages before left no scales for "encoder/);
  await refuse([{ type: "sparsity", pattern: "2:4", targets: ["re:nothing"] }], /pattern "re:nothing" matches no layer/);

  const integers = { name: "integers", modifiers: [{ type: "quantization", spec: "int4", activations: "int4" }], training };
  const noise = { type: "quantization", rounding: "noise" };
  await t.throwsAsync(compress("noise-on-integers", [integers, { name: "noise", modifiers: [noise], training }]), {
    code: "BAD_RECIPE",
    message: /r\.yaml:1: quantization: noise rounding gives no whole numbers for the int4 activations .*; add activations: float32/,
  });
  const floats = { name: "noise", modifiers: [{ ...noise, activations: "float32" }], training };
  await t.notThrowsAsync(compress("noise-on-floats", [integers, floats]));

  const lines = (text: string): Promise<unknown> =>
    compressModel({ model: float, recipe: parseRecipe(text, "r.yaml"), manifest, out: join(folder.path, "refused") });
  const keys =
    "steps: 1\n      freeze: ['*']\n      learningRates:\n        - {targets: ['*'], scale: 2}\n        - {targets: [nothing], scale: 1}";
  await t.throwsAsync(lines(`stages:\n  - training:\n      ${keys}`), {
    code: "BAD_RECIPE",
    message: /r\.yaml:7: pattern "nothing" matches no layer/,
  });
  const smoothed = "stages:\n  - training:\n      steps: 1\n      labelSmoothing: 0.1";
  await t.throwsAsync(lines(smoothed), { code: "BAD_RECIPE", message: /r\.yaml:4: labelSmoothing is for sequence-to-sequence models/ });
  const once = (modifier: string): string => `stages:\n  - modifiers:\n      - ${modifier}`;
  await t.throwsAsync(lines(once("{type: round-to-nearest, spec: int4, scale: threshold}")), {
    code: "INVALID_ARGUMENT",
    message: /r\.yaml:3: round-to-nearest: .*threshold is for ternary/,
  });
  const tight = "{type: mixed-precision, specs: [int8, int4], budget: 10, calibration: {utterances: 1}}";
  await t.throwsAsync(lines(once(tight)), { code: "INVALID_ARGUMENT", message: /r\.yaml:3: mixed-precision: the smallest specs take/ });
  rmSync(join(folder.path, "refused.run"), { recursive: true, force: true });
});
