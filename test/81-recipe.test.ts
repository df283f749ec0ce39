import { mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { parseRecipe, readRecipe, resolveSpecs, UsmLiteError } from "../lib/index.js";
import { temporaryFolder } from "./tiny_model.js";

const folder = temporaryFolder("recipe");
test.after.always(folder.clean);

test("a short recipe has the defaults of the documentation", (t) => {
  const { stages } = parseRecipe("stages:\n  - modifiers: [{type: round-to-nearest, spec: int4+2:4}]\n  - training: {steps: 10}", "r.yaml");
  t.deepEqual(
    stages.map(({ name }) => name),
    ["stage-1", "stage-2"],
  );
  t.like(stages[0]?.modifiers[0], { type: "round-to-nearest", selection: { targets: undefined, ignore: [] }, source: "r.yaml:2" });
  t.is(stages[0]?.training, undefined);
  t.deepEqual(stages[1]?.training, {
    steps: 10,
    learningRate: 3e-4,
    warmUpSteps: 50,
    batchSeconds: 60,
    weightDecay: 1e-3,
    seed: 1,
    emaDecay: 0,
    labelSmoothing: 0,
    specAugment: true,
    speedPerturbation: true,
    freeze: [],
    learningRates: [],
  });
});

test("augmentation is given as that of float training is", (t) => {
  const text = "stages:\n  - training: {steps: 1, specAugment: {frequencyMasks: 1, timeMaskShare: 0.1}, noise: {noiseProbability: 0.4}}";
  t.like(parseRecipe(text, "r.yaml").stages[0]?.training, {
    specAugment: { frequencyMasks: 1, timeMaskShare: 0.1 },
    noise: { noiseProbability: 0.4 },
  });
});

test("what is wrong in a recipe is named with file, line and key", (t) => {
  const modifier = (text: string): string => `stages:\n  - name: a\n    modifiers:\n      - {${text}}\n    training: {steps: 1}`;
  const once = (text: string): string => `stages:\n  - modifiers:\n      - {${text}}`;
  const training = (text: string): string => `stages:\n  - training:\n      ${text}`;
  const cases: [string, string, RegExp][] = [
    [
      once("type: round-to-nearest, spec: int7"),
      "UNSUPPORTED_SPEC",
      /r\.yaml:3: key "stages\.0\.modifiers\.0\.spec": .*int7.*int1, ternary/,
    ],
    [once("type: round-to-nearest, spec: int4+4:4"), "UNSUPPORTED_SPEC", /:3: key "stages\.0\.modifiers\.0\.spec"/],
    [once("type: round-to-nearest, spec: 4"), "BAD_RECIPE", /spec": .*expected string, received number/],
    [once("type: round-to-nearest"), "BAD_RECIPE", /spec": missing; a string is needed/],
    [
      once("type: round-to-nearest, spec: int4, specs: int8"),
      "BAD_RECIPE",
      /:3: .*Unrecognized key: "specs"; docs\/recipes\.md lists the keys/,
    ],
    [once("type: round-to-nearest, spec: int4, targets: a"), "BAD_RECIPE", /targets": .*expected array/],
    [once("type: round-to-nearest, spec: int4, ignore: ['re:(']"), "BAD_RECIPE", /ignore\.0": "re:\(" is no regular expression/],
    [once("type: sparsity, pattern: '2:4'"), "BAD_RECIPE", /sparsity works in training; its stage needs the key "training"/],
    [once("type: prune"), "BAD_RECIPE", /:3: .*there is no modifier "prune"; these are: round-to-nearest, /],
    [once("spec: int4"), "BAD_RECIPE", /modifiers\.0\.type": missing; a string is needed/],
    [modifier("type: round-to-nearest, spec: int4"), "BAD_RECIPE", /:4: .*belongs in a stage without training/],
    [modifier("type: quantization, spec: int4+2:4"), "BAD_RECIPE", /:4: .*a dense number format is needed/],
    [modifier("type: quantization, spec: float32"), "BAD_RECIPE", /a dense number format is needed/],
    [modifier("type: sparsity, pattern: '4:4'"), "BAD_RECIPE", /"4:4" is no pattern; it is N:M/],
    [modifier("type: sparsity, pattern: '2:4', schedule: sometimes"), "BAD_RECIPE", /schedule"/],
    [modifier("type: sparsity, pattern: '2:4', schedule: few-shot, shots: 0"), "BAD_RECIPE", /shots"/],
    [modifier("type: sparsity, pattern: '2:4', start: -1"), "BAD_RECIPE", /start"/],
    [
      modifier("type: sparsity, pattern: '2:4', score: learned, gradient: sr-ste"),
      "BAD_RECIPE",
      /:4: .*gradient": .*not for score: learned/,
    ],
    [modifier("type: sparsity, pattern: '2:4', score: learned, fadeSteps: 3"), "BAD_RECIPE", /fadeSteps": .*not for score: learned/],
    [modifier("type: sparsity, pattern: '2:4', score: learned, decay: 0.5"), "BAD_RECIPE", /decay": decay is for gradient: sr-ste/],
    [modifier("type: sparsity, pattern: '2:4', shots: 3"), "BAD_RECIPE", /:4: .*shots": shots is for schedule: few-shot/],
    [modifier("type: sparsity, pattern: '2:4', schedule: every-step, interval: 3"), "BAD_RECIPE", /interval": interval is for schedule/],
    [
      modifier("type: many-sizes, schedule: one-shot, shots: 2, sizes: [{spec: int8}, {spec: '2:4'}]"),
      "BAD_RECIPE",
      /:4: .*shots": shots is for schedule: few-shot/,
    ],
    [modifier("type: quantization, scale: kept, clip: 0.5"), "BAD_RECIPE", /:4: .*clip": .*nothing with scale: kept/],
    [modifier("type: quantization, scale: kept, clipSearch: {}"), "BAD_RECIPE", /clipSearch": .*nothing with scale: kept/],
    [modifier("type: quantization, scale: kept, powerOfTwo: true"), "BAD_RECIPE", /powerOfTwo": .*nothing with scale: kept/],
    [modifier("type: quantization, scaleAverage: 0.5, scaleDecay: 0.1"), "BAD_RECIPE", /scaleDecay": .*averaged .* do not/],
    [modifier("type: quantization, rounding: noise, activations: int8"), "BAD_RECIPE", /rounding": noise rounding gives no whole numbers/],
    [modifier("type: quantization, rounding: stochastic, activations: int4"), "BAD_RECIPE", /rounding": stochastic rounding gives no/],
    [training("{steps: 1, noise: {noiseProbability: 2}}"), "BAD_RECIPE", /training\.noise\.noiseProbability"/],
    [training("{steps: 1, specAugment: {frequencyMaskShare: 2}}"), "BAD_RECIPE", /training\.specAugment/],
    ["stages:\n  - name: a\n  - {name: a}", "BAD_RECIPE", /:3: key "stages\.1\.name": another stage is called "a" too/],
    ["stages: [{name: a b}]", "BAD_RECIPE", /a name has letters/],
    ["stages: []", "BAD_RECIPE", /key "stages"/],
    ["stages: [int4", "BAD_RECIPE", /^r\.yaml:1: is not valid YAML: [^\n]+$/],
    ["a: b: c: d", "BAD_RECIPE", /^r\.yaml:1: is not valid YAML: [^\n]+$/],
    ["stages: []\nstages: []", "BAD_RECIPE", /^r\.yaml:2: is not valid YAML: .*unique/],
    ["stages: []\n1: a\n'1': b", "BAD_RECIPE", /^r\.yaml:3: is not valid YAML: .*unique; "1" is there twice$/],
    ["stages: []\n[a]: b", "BAD_RECIPE", /^r\.yaml:2: is not valid YAML: a key must be a text/],
    ["stages: &a []\n*a : b", "BAD_RECIPE", /^r\.yaml:2: is not valid YAML: a key must be a text/],
    [`a: &a 1\nb:\n${"- *a\n".repeat(101)}`, "BAD_RECIPE", /^r\.yaml:103: is not valid YAML: there are more than 100 aliases in it/],
    [Array.from({ length: 20_000 }, (_, i) => `k${i}: 1\n`).join(""), "BAD_RECIPE", /^r\.yaml:1: key "stages": missing/],
    [`#${"x".repeat(500_000)}`, "BAD_RECIPE", /^r\.yaml has 500001 characters; a file that describes a run has 500000 at most/],
    ["stages: *nothing", "BAD_RECIPE", /r\.yaml: .*nothing/],
    ["", "BAD_RECIPE", /r\.yaml:1: .*expected object.*docs\/recipes\.md/],
    ["int4+2:4", "BAD_RECIPE", /expected object/],
    ["spec: int4", "BAD_RECIPE", /key "stages": missing; an array is needed/],
    [training("{}"), "BAD_RECIPE", /:2: key "stages\.0\.training\.steps"/],
    [training("steps: 1.5"), "BAD_RECIPE", /training\.steps"/],
    [training("steps: 1\n      learningRate: fast"), "BAD_RECIPE", /:4: key "stages\.0\.training\.learningRate": .*expected number/],
    [training("steps: 1\n      emaDecay: 1"), "BAD_RECIPE", /training\.emaDecay"/],
    [training("steps: 1\n      learningrate: 1"), "BAD_RECIPE", /:4: key "stages\.0\.training": .*"learningrate"/],
    [training("steps: 1\n      freeze: ['re:[']"), "BAD_RECIPE", /freeze\.0": "re:\[" is no regular expression/],
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
  const recipe = (features: string): string => `stages: [{training: {steps: 1, features: ${features}}}]`;
  const read = (features: string) => {
    writeFileSync(join(folder.path, "features.yaml"), recipe(features));
    return readRecipe(join(folder.path, "features.yaml")).stages[0]?.training?.features;
  };
  t.is(read("cache"), join(folder.path, "cache"));
  t.is(read("../cache"), join(folder.path, "..", "cache"));
  t.is(read("/cache"), "/cache");
  t.is(parseRecipe(recipe("cache"), "r.yaml").stages[0]?.training?.features, "cache");
});

const blocks = ["encoder.layers.0.a.weight", "encoder.layers.0.b.weight", "encoder.layers.1.a.weight", "encoder.layers.10.a.weight"];
const weights = { linearWeights: () => ["encoder.subsampler.conv_0.weight", ...blocks, "ctc_head.weight"], blockWeights: () => blocks };
const plan = (stages: object[]): Record<string, string> =>
  Object.fromEntries(
    [...resolveSpecs(parseRecipe(JSON.stringify({ stages }), "r.yaml"), weights)].map(([name, spec]) => [name, spec.text]),
  );
const round = (spec: string, selection: object = {}): object => ({ type: "round-to-nearest", spec, ...selection });

test("patterns choose layers: the last modifier of a type that names a layer has it", (t) => {
  t.deepEqual(
    plan([
      {
        modifiers: [
          round("int4", { ignore: ["encoder.layers.1.*"] }),
          round("2:4", { targets: ["*.a"], ignore: ["*.1.a"] }),
          round("int8", { targets: ["re:encoder\\.layers\\.0\\..*"] }),
        ],
      },
    ]),
    { "encoder.layers.0.a.weight": "int8", "encoder.layers.0.b.weight": "int8", "encoder.layers.10.a.weight": "float32+2:4" },
  );
  t.deepEqual(plan([{ modifiers: [round("int4", { ignore: ["encoder.layers.1*", "*.b"] }), round("int8", { targets: ["*.conv_0"] })] }]), {
    "encoder.subsampler.conv_0.weight": "int8",
    "encoder.layers.0.a.weight": "int4",
  });
  t.deepEqual(plan([{ modifiers: [round("float32")] }]), {});
  for (const pattern of ["encoder.layers.7.*", "encoder.layers.0.a.weight", "encoder_layers.0.a", "[", ".*", "re:layers"]) {
    t.throws(
      () => plan([{ modifiers: [round("int4", { ignore: [pattern] })] }]),
      { code: "BAD_RECIPE", message: /r\.yaml:1: pattern .* matches no layer; layers are named like "encoder\.subsampler\.conv_0"/ },
      pattern,
    );
  }
  t.throws(() => plan([{ modifiers: [round("int4", { ignore: ["re:((\\w+.?)+)+!"] })] }]), {
    code: "BAD_RECIPE",
    message: /pattern "re:\(\(\\w\+\.\?\)\+\)\+!" takes too long to compare with "encoder\.subsampler\.conv_0": repetitions in repetitions/,
  });
  t.deepEqual(plan([{ modifiers: [round("int4", { targets: [`${"*".repeat(50)}conv_0`] })] }]), {
    "encoder.subsampler.conv_0.weight": "int4",
  });
});

test("number format and sparsity of a layer come from different modifiers and stages", (t) => {
  const training = { steps: 1 };
  const only = { ignore: ["*.b", "*.1*.a"] };
  const quantization = { type: "quantization", ...only };
  const sparsity = { type: "sparsity", pattern: "2:4", ...only };
  const layer = "encoder.layers.0.a.weight";
  t.deepEqual(plan([{ modifiers: [{ ...quantization, spec: "int4/g32" }, sparsity], training }]), { [layer]: "int4/g32+2:4" });
  t.deepEqual(plan([{ modifiers: [sparsity], training }]), { [layer]: "float32+2:4" });
  t.deepEqual(
    plan([
      { modifiers: [sparsity], training },
      { modifiers: [{ ...quantization, spec: "int8" }], training },
    ]),
    { [layer]: "int8+2:4" },
  );
  t.deepEqual(plan([{ modifiers: [round("int4+1:4", only)] }, { modifiers: [quantization], training }]), { [layer]: "int4+1:4" });
  t.throws(() => plan([{ modifiers: [quantization], training }]), {
    code: "BAD_RECIPE",
    message: /r\.yaml:1: quantization of "encoder\.layers\.0\.a\.weight": no stage before gave it a number format/,
  });
});

test("every recipe of recipes/ is one", (t) => {
  const place = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "recipes");
  for (const file of readdirSync(place)) t.notThrows(() => readRecipe(join(place, file)), file);
});
