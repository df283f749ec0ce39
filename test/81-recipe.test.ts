import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import { parseRecipe, readRecipe, UsmLiteError } from "../lib/index.js";
import { planCompression } from "../lib/compress/compression_plan.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("recipe");
test.after.always(folder.clean);

test("a recipe of one line has the defaults of the documentation", (t) => {
  t.like(parseRecipe("spec: int4+2:4", "r.yaml"), {
    spec: { text: "int4+2:4", bits: 4, sparsity: { kept: 2, of: 4 } },
    layers: [],
    exclude: [],
    stopScaleGradient: false,
    mask: { kind: "one-shot", step: 0 },
    fineTuning: undefined,
  });
  t.deepEqual(parseRecipe("spec: int8\nfineTuning: {steps: 10}", "r.yaml").fineTuning, {
    steps: 10,
    learningRate: 3e-4,
    warmUpSteps: 50,
    batchSeconds: 60,
    weightDecay: 1e-3,
    seed: 1,
    emaDecay: 0,
    specAugment: true,
    speedPerturbation: true,
  });
});

test("mask schedules", (t) => {
  const mask = (text: string) => parseRecipe(`spec: "2:4"\nmask: {${text}}`, "r.yaml").mask;
  t.deepEqual(mask("schedule: one-shot, start: 7"), { kind: "one-shot", step: 7 });
  t.deepEqual(mask("schedule: few-shot"), { kind: "few-shot", start: 0, shots: 4, interval: 100 });
  t.deepEqual(mask("schedule: few-shot, start: 5, shots: 2, interval: 10"), { kind: "few-shot", start: 5, shots: 2, interval: 10 });
  t.deepEqual(mask("schedule: every-step, start: 3"), { kind: "every-step", start: 3 });
});

test("what is wrong in a recipe is named with file and key", (t) => {
  const cases: [string, string, RegExp][] = [
    ["spec: int7", "UNSUPPORTED_SPEC", /r\.yaml: key "spec": .*int7.*int1, ternary/],
    ["spec: int4+4:4", "UNSUPPORTED_SPEC", /key "spec"/],
    ["spec: int4\nlayers: [{pattern: a, spec: int9}]", "UNSUPPORTED_SPEC", /key "layers\.0\.spec": .*int9/],
    ["spec: int4\nlayers: [{pattern: a}]", "BAD_RECIPE", /key "layers\.0\.spec": .*expected string/],
    ["spec: int4\nlayers: {a: int4}", "BAD_RECIPE", /key "layers": .*expected array/],
    ["spec: [int4", "BAD_RECIPE", /r\.yaml: .*line 1/],
    ["a: b: c: d", "BAD_RECIPE", /r\.yaml: .*line 1/],
    ["spec: int4\nspec: int8", "BAD_RECIPE", /r\.yaml: .*unique.*line 2/s],
    ["spec: *nothing", "BAD_RECIPE", /r\.yaml: .*nothing/],
    ["", "BAD_RECIPE", /r\.yaml: .*expected object.*docs\/recipes\.md/],
    ["int4+2:4", "BAD_RECIPE", /expected object/],
    ["layers: []", "BAD_RECIPE", /key "spec": .*expected string/],
    ["spec: 4", "BAD_RECIPE", /key "spec": .*expected string, received number/],
    ["spec: int4\nspecs: int8", "BAD_RECIPE", /r\.yaml: Unrecognized key: "specs"; docs\/recipes\.md lists the keys/],
    ["spec: int4\nexclude: a", "BAD_RECIPE", /key "exclude"/],
    ["spec: int4\nmask: {schedule: sometimes}", "BAD_RECIPE", /key "mask\.schedule"/],
    ["spec: int4\nmask: {schedule: one-shot, shots: 3}", "BAD_RECIPE", /key "mask": .*"shots"/],
    ["spec: int4\nmask: {schedule: few-shot, shots: 0}", "BAD_RECIPE", /key "mask\.shots"/],
    ["spec: int4\nmask: {schedule: every-step, start: -1}", "BAD_RECIPE", /key "mask\.start"/],
    ["spec: int4\nfineTuning: {}", "BAD_RECIPE", /key "fineTuning\.steps"/],
    ["spec: int4\nfineTuning: {steps: 1.5}", "BAD_RECIPE", /key "fineTuning\.steps"/],
    ["spec: int4\nfineTuning: {steps: 1, learningRate: fast}", "BAD_RECIPE", /key "fineTuning\.learningRate": .*expected number/],
    ["spec: int4\nfineTuning: {steps: 1, emaDecay: 1}", "BAD_RECIPE", /key "fineTuning\.emaDecay"/],
    ["spec: int4\nfineTuning: {steps: 1, learningrate: 1}", "BAD_RECIPE", /key "fineTuning": .*"learningrate"/],
  ];
  for (const [text, code, message] of cases) t.throws(() => parseRecipe(text, "r.yaml"), { instanceOf: UsmLiteError, code, message }, text);
});

test("recipe files that cannot be read are coded errors", (t) => {
  t.throws(() => readRecipe(join(folder.path, "none.yaml")), { code: "FILE_NOT_FOUND", message: /none\.yaml/ });
  mkdirSync(join(folder.path, "folder.yaml"));
  t.throws(() => readRecipe(join(folder.path, "folder.yaml")), { code: "FILE_UNREADABLE", message: /folder\.yaml/ });
  writeFileSync(join(folder.path, "bytes.yaml"), Uint8Array.of(0xff, 0xfe, 0x00));
  t.throws(() => readRecipe(join(folder.path, "bytes.yaml")), { code: "BAD_RECIPE", message: /bytes\.yaml is not UTF-8/ });
});

test("the folder of features is relative to the recipe's", (t) => {
  const recipe = (features: string): string => `spec: int4\nfineTuning: {steps: 1, features: ${features}}`;
  const read = (features: string) => {
    writeFileSync(join(folder.path, "features.yaml"), recipe(features));
    return readRecipe(join(folder.path, "features.yaml")).fineTuning?.features;
  };
  t.is(read("cache"), join(folder.path, "cache"));
  t.is(read("../cache"), join(folder.path, "..", "cache"));
  t.is(read("/cache"), "/cache");
  t.is(parseRecipe(recipe("cache"), "r.yaml").fineTuning?.features, "cache");
});

test("patterns choose layers: exclusion first, then the first that matches", (t) => {
  const blocks = ["encoder.layers.0.a.weight", "encoder.layers.0.b.weight", "encoder.layers.1.a.weight", "encoder.layers.10.a.weight"];
  const weights = { linearWeights: () => [...blocks, "encoder.subsampler.conv_0.weight", "ctc_head.weight"], blockWeights: () => blocks };
  const plan = (text: string) => Object.fromEntries([...planCompression(parseRecipe(text, "r.yaml"), weights, "r.yaml")].map(([name, spec]) => [name, spec.text]));
  t.deepEqual(
    plan('spec: int4\nlayers: [{pattern: "encoder.layers.0.*", spec: int8}, {pattern: "*.a", spec: "2:4"}]\nexclude: ["encoder.layers.1.*"]'),
    { "encoder.layers.0.a.weight": "int8", "encoder.layers.0.b.weight": "int8", "encoder.layers.10.a.weight": "float32+2:4" },
  );
  t.deepEqual(
    plan('spec: int4\nlayers: [{pattern: "*.conv_0", spec: int8}]\nexclude: ["encoder.layers.1*", "*.b"]'),
    { "encoder.subsampler.conv_0.weight": "int8", "encoder.layers.0.a.weight": "int4" },
  );
  t.deepEqual(plan("spec: float32"), {});
  for (const pattern of ["encoder.layers.7.*", "encoder.layers.0.a.weight", "encoder_layers.0.a", "[", ".*"]) {
    t.throws(
      () => plan(`spec: int4\nexclude: [${JSON.stringify(pattern)}]`),
      { code: "BAD_RECIPE", message: /r\.yaml: pattern .* matches no layer; layers are named like "encoder\.layers\.0\.a"/ },
      pattern,
    );
  }
});
