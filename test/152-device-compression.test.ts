import { assertClose } from "./gpu.js";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  compressModel,
  DeviceTensor,
  gpuMemoryStatistics,
  loadModel,
  parseRecipe,
  readSafetensors,
  readTrainingConfig,
  Recognizer,
  SequenceOffsets,
  tidy,
  trainFloatModel,
  type LoadOptions,
  type Recipe,
  type Tensor,
} from "../lib/index.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { languageOf, writeFamilyModel } from "./family_models.js";
import { randomTensor } from "./gradient.js";
import { usmLite } from "./command_line.js";
import { temporaryFolder, tinyEncoder, tones, writeTinyModel, writeWav } from "./tiny_model.js";

const folder = temporaryFolder("device-compression");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);
const float = writeTinyModel(path("float"), { blocks: 1, languageModel: false });
writeWav(path("clip.wav"), tones(0.5, 1));
const manifest = path("manifest.jsonl");
writeFileSync(manifest, JSON.stringify({ audio_filepath: "clip.wav", duration: 0.5, text: "A HAT" }));

/** Of stages that are a list of modifiers, and train unless it is said otherwise. */
const recipeOf = (...stages: (readonly object[])[]): Recipe => {
  const training = { steps: stages.length > 1 ? 1 : 2, learningRate: 3e-3, warmUpSteps: 1, speedPerturbation: false, emaDecay: 0.5 };
  return parseRecipe(
    JSON.stringify({ stages: stages.map((modifiers) => ({ modifiers, ...(isOneShot(modifiers) ? {} : { training }) })) }),
    "r.yaml",
  );
};
const isOneShot = (modifiers: readonly object[]): boolean =>
  modifiers.some((modifier) => "type" in modifier && modifier.type === "round-to-nearest");

async function compress(
  recipe: Recipe,
  out: string,
  options: Partial<Parameters<typeof compressModel>[0]> = {},
): Promise<readonly string[]> {
  const told: string[] = [];
  await compressModel({
    model: float,
    recipe,
    manifest,
    out: path(out),
    device: "cuda",
    ...options,
    onStatus: (sentence) => told.push(sentence),
  });
  return told;
}

const losses = (out: string, suffix = ".run"): number[] =>
  readFileSync(path(`${out}${suffix}`, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { loss: number }).loss);

test.serial("what a recipe trains on the GPU is packed as on the CPU", async (t) => {
  const recipe = recipeOf([
    { type: "sparsity", pattern: "2:4", start: 1 },
    { type: "quantization", spec: "int4", clipSearch: { steps: 2, lowest: 0.5 } },
    { type: "distillation", hidden: 0.5 },
  ]);
  const told = await compress(recipe, "gpu");
  t.true(told.some((sentence) => sentence.startsWith("training on ")));
  await compress(recipe, "cpu", { device: "cpu" });
  const [gpu, cpu] = [losses("gpu"), losses("cpu")];
  t.is(gpu.length, 2);
  gpu.forEach((loss, step) => t.true(Math.abs(loss / (cpu[step] as number) - 1) < 2e-2, `${loss}, not ${cpu[step]}`));
  const [trained, expected] = [loadModel(path("gpu")), loadModel(path("cpu"))];
  t.deepEqual(
    [...trained.compression.specs].map(([name, { text }]) => [name, text]),
    [...expected.compression.specs].map(([name, { text }]) => [name, text]),
  );
  t.is(new Recognizer(trained).transcribe(tones(1, 1)).duration, 1);
});

test.serial("stages hand on masks and scales to the GPU, and the model teaches itself there", async (t) => {
  const recipe = recipeOf([{ type: "round-to-nearest", spec: "int4+2:4" }], [{ type: "distillation", teacher: "self" }]);
  await compress(recipe, "stages");
  const { network, compression } = loadModel(path("stages"));
  t.is(compression.specs.get(network.blockWeights()[0] as string)?.text, "int4+2:4");
});

test.serial("learned scales are learned on the GPU, and packed", async (t) => {
  const recipe = recipeOf([
    { type: "quantization", spec: "int4", learned: true },
    { type: "sparsity", pattern: "2:4", start: 1 },
  ]);
  await compress(recipe, "learned-gpu");
  await compress(recipe, "learned-cpu", { device: "cpu" });
  const [gpu, cpu] = [losses("learned-gpu"), losses("learned-cpu")];
  gpu.forEach((loss, step) => t.true(Math.abs(loss / (cpu[step] as number) - 1) < 2e-2, `${loss}, not ${cpu[step]}`));
  const scales = (out: string): Float32Array => {
    using file = readSafetensors(path(out, "model.safetensors"));
    return file.values("encoder.layers.0.feed_forward1.linear1.weight_scale") as Float32Array;
  };
  const [found, wanted] = [scales("learned-gpu"), scales("learned-cpu")];
  assertClose(t, found, wanted, 1e-2, "learned scales");
});

for (const [name, spec, activations] of [
  ["w4a4", "int4", "int4"],
  ["asymmetric", "uint2/g32", "int8-asymmetric"],
] as const)
  test.serial(`${spec} by ${activations} is trained in whole numbers on the GPU as on the CPU, and served so`, async (t) => {
    const recipe = recipeOf([{ type: "quantization", spec, activations }]);
    await compress(recipe, `${name}-gpu`);
    await compress(recipe, `${name}-cpu`, { device: "cpu" });
    const [gpu, cpu] = [losses(`${name}-gpu`), losses(`${name}-cpu`)];
    t.is(gpu.length, 2);
    gpu.forEach((loss, step) => t.true(Math.abs(loss / (cpu[step] as number) - 1) < 2e-2, `${loss}, not ${cpu[step]}`));
    const model = path(`${name}-gpu`);
    const logits = (options: LoadOptions, place: (x: Tensor) => Tensor = (x) => x): Float32Array =>
      tidy(() => {
        const network = loadModel(model, options).network as CtcNetwork;
        return network.forward(place(randomTensor([40, network.featureSize], 3)), new SequenceOffsets([40])).logits.toArray();
      });
    const inIntegersOnGpu = { device: "cuda", arithmetic: "int8" } as const;
    const [onCpu, inIntegers, inFloats] = [
      logits({}),
      logits(inIntegersOnGpu, DeviceTensor.from),
      logits({ device: "cuda" }, DeviceTensor.from),
    ];
    const distance = (a: Float32Array): number => Math.sqrt(a.reduce((sum, value, i) => sum + (value - (onCpu[i] as number)) ** 2, 0));
    const size = Math.sqrt(onCpu.reduce((sum, value) => sum + value ** 2, 0));
    const most = activations === "int4" ? 0.15 : 2e-2; // of 15 levels another one is a large error, and a last bit can decide which
    for (const found of [inIntegers, inFloats]) t.true(distance(found) < most * size, `${distance(found)} of ${size}`);

    const recognizer = new Recognizer(loadModel(model, inIntegersOnGpu), { decoder: "greedy" });
    const heard = [tones(0.4, 1), tones(1.3, 2)];
    const together = recognizer.logProbabilities(heard).map(({ values }) => values);
    heard.forEach((one, i) => t.deepEqual(recognizer.logProbabilities([one])[0]?.values, together[i], "alone and in a batch"));
  });

test.serial("learned masks, zero points, means and stochastic rounding are trained on the GPU as on the CPU", async (t) => {
  const recipes = {
    zeroPoints: [
      { type: "sparsity", pattern: "2:4", score: "learned", schedule: "every-step" },
      { type: "quantization", spec: "uint2/g32", learned: true, rounding: "stochastic" },
    ],
    means: [{ type: "quantization", spec: "ternary", scale: "threshold", powerOfTwo: true, scaleDecay: 0.01, activations: "int8" }],
  };
  for (const [name, modifiers] of Object.entries(recipes)) {
    await compress(recipeOf(modifiers), `${name}-gpu`);
    await compress(recipeOf(modifiers), `${name}-cpu`, { device: "cpu" });
    const [gpu, cpu] = [losses(`${name}-gpu`), losses(`${name}-cpu`)];
    t.is(gpu.length, 2);
    gpu.forEach((loss, step) => t.true(Math.abs(loss / (cpu[step] as number) - 1) < 2e-2, `${name}: ${loss}, not ${cpu[step]}`));
    const spec = (out: string): string | undefined => {
      const { network, compression } = loadModel(path(out));
      return compression.specs.get(network.blockWeights()[0] as string)?.text;
    };
    t.is(spec(`${name}-gpu`), name === "means" ? "ternary" : "uint2/g32+2:4");
  }
});

test.serial("blocks are rebuilt one after another on the GPU as on the CPU", async (t) => {
  const model = writeTinyModel(path("two-blocks"), { blocks: 2, languageModel: false });
  const training = {
    steps: 2,
    learningRate: 3e-3,
    warmUpSteps: 1,
    speedPerturbation: false,
    specAugment: false,
    emaDecay: 0.5,
    blockwise: {},
  };
  const rebuild = { name: "rebuild", modifiers: [{ type: "quantization", spec: "int4" }], training };
  const recipe = parseRecipe(
    JSON.stringify({ stages: [{ name: "prune", modifiers: [{ type: "round-to-nearest", spec: "1:4" }] }, rebuild] }),
    "r.yaml",
  );
  const told = await compress(recipe, "blocks-gpu", { model });
  t.is(told.filter((sentence) => /^block [01]: relative squared error /.test(sentence)).length, 2);
  await compress(recipe, "blocks-cpu", { model, device: "cpu" });
  for (const block of ["block-0", "block-1"]) {
    const [gpu, cpu] = ["gpu", "cpu"].map((device) => losses(join(`blocks-${device}.run`, "rebuild", block), "")) as [number[], number[]];
    gpu.forEach((loss, step) => t.true(Math.abs(loss / (cpu[step] as number) - 1) < 5e-2, `${block}: ${loss}, not ${cpu[step]}`));
    t.true((gpu[0] as number) > 1e-3);
  }
  const specs = [...loadModel(path("blocks-gpu")).compression.specs.values()].map(({ text }) => text);
  t.true(specs.length > 0 && specs.every((text) => text === "int4+1:4"));
});

test.serial("blocks of other encoders, and of decoders, are rebuilt on the GPU as on the CPU", async (t) => {
  // Small steps: the first ones of AdamW go by the signs of gradients, and the least of these are the sums of what was rounded.
  const training = { steps: 2, learningRate: 2e-4, warmUpSteps: 1, speedPerturbation: false, specAugment: false, blockwise: {} };
  const recipe = parseRecipe(JSON.stringify({ stages: [{ modifiers: [{ type: "quantization", spec: "int4" }], training }] }), "r.yaml");
  for (const [family, blocks] of [
    ["wav2vec2", 1],
    ["whisper", 2],
  ] as const) {
    const model = writeFamilyModel(folder.path, family);
    const before = gpuMemoryStatistics().bytesInUse;
    for (const device of ["cuda", "cpu"] as const)
      await compress(recipe, `${family}-blocks-${device}`, { model, device, ...languageOf(family) });
    t.true(
      gpuMemoryStatistics().bytesInUse <= before + (16 << 10),
      "all memory of the GPU is given back, but for counters that a stream keeps",
    );
    for (let block = 0; block < blocks; block++) {
      const [gpu, cpu] = ["cuda", "cpu"].map((device) => losses(join(`${family}-blocks-${device}.run`, `block-${block}`), "")) as [
        number[],
        number[],
      ];
      t.is(gpu.length, 2);
      gpu.forEach((loss, step) =>
        t.true(Math.abs(loss / (cpu[step] as number) - 1) < 5e-2, `${family}, block ${block}: ${loss}, not ${cpu[step]}`),
      );
    }
  }
});

test.serial("several sizes are trained together on the GPU as on the CPU", async (t) => {
  const recipe = recipeOf([{ type: "many-sizes", sizes: [{ spec: "int8" }, { spec: "int4+2:4" }], start: 1, interval: 1 }]);
  await compress(recipe, "sizes-gpu");
  await compress(recipe, "sizes-cpu", { device: "cpu" });
  const lossesOf = (out: string): number[] =>
    readFileSync(path(`${out}.run`, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n")
      .flatMap((line) => {
        const metrics = JSON.parse(line) as Record<string, number>;
        return [metrics["loss.int8"], metrics["loss.int4+2-4"]] as number[];
      });
  const [gpu, cpu] = [lossesOf("sizes-gpu"), lossesOf("sizes-cpu")];
  t.is(gpu.length, 4);
  gpu.forEach((loss, index) => t.true(Math.abs(loss / (cpu[index] as number) - 1) < 2e-2, `${loss}, not ${cpu[index]}`));
  for (const [size, spec] of [
    ["int8", "int8"],
    ["int4+2-4", "int4+2:4"],
  ] as const) {
    const { network, compression } = loadModel(path("sizes-gpu", size));
    t.is(compression.specs.get(network.blockWeights()[0] as string)?.text, spec);
  }
});

test.serial("a float model is trained on the GPU, by the command too", async (t) => {
  const config = path("train.yaml");
  writeFileSync(
    config,
    JSON.stringify({
      model: { ...tinyEncoder, num_mel_bins: 16, hidden_size: 16, intermediate_size: 32, subsampling_conv_channels: 8 },
      data: { train: ["manifest.jsonl"], features: "features", speeds: [1], batchSeconds: 5 },
      intermediateLoss: { layer: 1, weight: 0.3 },
      averageDecay: 0.5,
      epochs: 1,
    }),
  );
  const { status, stderr } = await usmLite("train", "--config", config, "--out", path("run"), "--device", "cuda");
  t.is(status, 0, stderr);
  t.regex(stderr, /training on .*done after 1 steps\n$/s);
  t.is(new Recognizer(loadModel(path("run", "model"))).transcribe(tones(1, 1)).duration, 1);
  const { model, ...others } = readTrainingConfig(config);
  await t.throwsAsync(
    trainFloatModel({ ...others, model: { ...model, hidden_size: 12 } }, { out: path("wide"), resume: false, device: "cuda" }),
    {
      code: "UNSUPPORTED_MODEL",
      message: /has heads of 6 values; on the GPU they are trained with 8, 16, .. 128; train it with device "cpu"/,
    },
  );
  t.false(existsSync(path("wide", "checkpoints")));
});
