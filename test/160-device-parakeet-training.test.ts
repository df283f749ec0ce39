import { assertClose } from "./gpu.js";
import { copyFileSync, existsSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import type { JsonObject } from "../lib/checkpoint/json_file.js";
import {
  compressModel,
  loadModel,
  parseRecipe,
  placeForTraining,
  SequenceOffsets,
  Tensor,
  Trainer,
  warmupConstant,
  type BatchSource,
} from "../lib/index.js";
import { describeModel } from "../lib/models/model_folder.js";
import { trainableNetwork, type TrainableNetwork } from "../lib/models/trainable.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { assertSameStep, heldByBfloat16, trainingStep, type Step } from "./device_steps.js";
import { randomTensor, randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { trainableConfigs } from "./trainable_models.js";
import { temporaryFolder, tones, writeWav } from "./tiny_model.js";

const folder = temporaryFolder("device-parakeet-training");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);

const encoder = {
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 32,
  subsampling_conv_channels: 8,
  num_mel_bins: 16,
};
const transducer = { vocab_size: 11, blank_token_id: 10, decoder_hidden_size: 12, num_decoder_layers: 1 };
const families = {
  parakeet_ctc: { vocab_size: 11, pad_token_id: 10 },
  parakeet_rnnt: transducer,
  parakeet_tdt: { ...transducer, durations: [0, 1, 2] },
};
type Family = keyof typeof families;
const configOf = (family: Family, change: object = {}): JsonObject => ({
  model_type: family,
  ...families[family],
  encoder_config: { ...encoder, ...change },
});

function fresh(family: Family, change: object = {}): TrainableNetwork {
  const network = describeModel(configOf(family, change), "config.json").network(new FreshWeights(5));
  return trainableNetwork({ network, folder: family });
}

/** Fresh biases are zero, where relu has its kink, fresh attention is the mean of all frames, and fresh statistics are those of nothing. */
function warmedUp(family: Family, change: object): TrainableNetwork {
  const network = fresh(family, { hidden_size: 32, intermediate_size: 64, subsampling_conv_channels: 16, ...change });
  for (const [name, tensor] of network.parameters()) {
    if (/bias(_[uv])?$/.test(name)) tensor.write(tensor.toArray().map((_, i) => 0.1 * Math.sin(i + name.length)));
    if (/[qk]_proj\.weight$/.test(name)) tensor.write(tensor.toArray().map((value) => 2 * value));
  }
  for (const [name, tensor] of network.buffers())
    tensor.write(tensor.toArray().map((value, i) => value * 0.5 + (name.endsWith("mean") ? 0.1 : 0.2) * Math.cos(i) ** 2));
  return network;
}

const lengths = [79, 62];
const targets = [
  [3, 5, 5],
  [1, 2, 7],
];

const stepIsThatOfTheCpu = (t: ExecutionContext, family: Family, change: object = {}): void => {
  const offsets = new SequenceOffsets(lengths);
  const features = heldByBfloat16(
    Tensor.from(
      randomValues(offsets.frames * 16, 8).map((value) => 5 * value),
      [offsets.frames, 16],
    ),
  );
  const step = (device: "cpu" | "cuda"): Step =>
    trainingStep(
      () => warmedUp(family, change),
      { features, offsets, targets, audioSeconds: 1 },
      device,
      (network) => (family === "parakeet_ctc" ? network.blockWeights() : network.linearWeights()),
    );
  assertSameStep(t, step("cuda"), step("cpu"));
};

for (const family of ["parakeet_ctc", "parakeet_rnnt"] as const)
  test.serial(`a training step on the GPU is that of the CPU: ${family}`, stepIsThatOfTheCpu, family);
test.serial(
  "a training step on the GPU is that of the CPU: attention over a window, and heads that share keys",
  stepIsThatOfTheCpu,
  "parakeet_tdt",
  {
    attention_type: "rel_pos_local_attn",
    attention_context_size: [3, 1],
    num_key_value_heads: 1,
  },
);

/** The same utterance again and again. */
const batches: BatchSource = {
  count: () => 1,
  batch: () => {
    const offsets = new SequenceOffsets([52]);
    return { features: randomTensor([52, 16], 8), offsets, targets: [[1, 2, 7]], audioSeconds: 1 };
  },
};

/** Losses of a run up to `totalSteps`, from the newest checkpoint in its folder if there is one. */
async function train(family: Family, name: string, device: "cpu" | "cuda", totalSteps: number): Promise<number[]> {
  const network = device === "cuda" ? placeForTraining(fresh(family)) : fresh(family);
  const losses: number[] = [];
  const options = { folder: path(name), totalSteps, schedule: warmupConstant({ peak: 0.01, warmupSteps: 2 }), averageDecay: 0.5 };
  const trainer = new Trainer(network, batches, { ...options, onStep: ({ loss }) => losses.push(loss) });
  trainer.resume();
  await trainer.run();
  trainer.dispose();
  network.dispose();
  return losses;
}

const checkpoint = (name: string, step: number): Buffer => readFileSync(path(name, "checkpoints", `step-0000000${step}.safetensors`));

test.serial("runs on the GPU learn an utterance by heart as on the CPU, and go on to the same bits", async (t) => {
  for (const family of ["parakeet_ctc", "parakeet_tdt"] as const) {
    const [gpu, cpu] = [await train(family, `${family}-gpu`, "cuda", 4), await train(family, `${family}-cpu`, "cpu", 4)];
    assertClose(t, Float32Array.from(gpu), Float32Array.from(cpu), 2e-2, `losses of ${family}`);
    t.true((gpu[3] as number) < 0.85 * (gpu[0] as number), `${family}: ${gpu.join(" ")}`);
  }
  for (const steps of [2, 4]) await train("parakeet_tdt", "resumed", "cuda", steps);
  t.deepEqual(checkpoint("resumed", 4), checkpoint("parakeet_tdt-gpu", 4));
});

const manifest = path("manifest.jsonl");
writeWav(path("clip.wav"), tones(1, 1));
writeFileSync(manifest, JSON.stringify({ audio_filepath: "clip.wav", duration: 1, text: "A HAT" }));

/** A model folder with the tokenizer of the tests. */
function folderOf(name: string, config: object): string {
  const from = writeRandomModel(path(name), config, { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 16 });
  copyFileSync(
    join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text", "tokenizer_metaspace.json"),
    join(from, "tokenizer.json"),
  );
  return from;
}

const float = folderOf("float", { ...configOf("parakeet_ctc"), vocab_size: 61, pad_token_id: 60 });
const training = { steps: 2, learningRate: 3e-3, warmUpSteps: 1, speedPerturbation: false, specAugment: false };
const compress = (out: string, device: "cpu" | "cuda", stages: readonly object[], model = float): Promise<boolean> =>
  compressModel({ model, recipe: parseRecipe(JSON.stringify({ stages }), "r.yaml"), manifest, out: path(out), device });
const lossesIn = (...run: string[]): Float32Array =>
  Float32Array.from(
    readFileSync(path(...run, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n"),
    (line) => (JSON.parse(line) as { loss: number }).loss,
  );

test.serial("recipes train CTC models on the GPU: block by block, then whole and taught", async (t) => {
  const stages = [
    { name: "rebuild", modifiers: [{ type: "quantization", spec: "int4" }], training: { ...training, blockwise: {} } },
    {
      name: "tune",
      modifiers: [
        { type: "sparsity", pattern: "2:4", start: 1 },
        { type: "distillation", hidden: 0.5 },
      ],
      training,
    },
  ];
  for (const device of ["cuda", "cpu"] as const) t.true(await compress(`packed-${device}`, device, stages));
  for (const [stage, tolerance] of [
    [["rebuild", "block-0"], 5e-2],
    [["tune"], 2e-2],
  ] as const) {
    assertClose(t, lossesIn("packed-cuda.run", ...stage), lossesIn("packed-cpu.run", ...stage), tolerance, stage.join("/"));
  }
  const [found, expected] = [loadModel(path("packed-cuda")), loadModel(path("packed-cpu"))].map(({ compression }) =>
    [...compression.specs].map(([name, { text }]) => `${name} ${text}`),
  );
  t.deepEqual(found, expected);
  t.true((found as string[]).includes("encoder.layers.0.self_attn.relative_k_proj.weight int4+2:4"));
});

test.serial("recipes train transducers on the GPU", async (t) => {
  const model = folderOf("transducer", { ...configOf("parakeet_rnnt"), vocab_size: 61, blank_token_id: 60 });
  const stages = [
    { name: "round", modifiers: [{ type: "round-to-nearest", targets: ["joint.head"], spec: "int8+2:4" }] },
    {
      name: "tune",
      modifiers: [
        { type: "quantization", spec: "int4" },
        { type: "quantization", targets: ["decoder.lstm.*"], spec: "int4" },
        { type: "distillation", hidden: 0.5 },
      ],
      training,
    },
  ];
  for (const device of ["cuda", "cpu"] as const) t.true(await compress(`transducer-${device}`, device, stages, model));
  assertClose(t, lossesIn("transducer-cuda.run", "tune"), lossesIn("transducer-cpu.run", "tune"), 2e-2, "losses");
  const [found, expected] = [loadModel(path("transducer-cuda")), loadModel(path("transducer-cpu"))].map(({ compression }) =>
    [...compression.specs].map(([name, { text }]) => `${name} ${text}`),
  );
  t.deepEqual(found, expected);
  for (const line of ["decoder.lstm.weight_hh_l0 int4", "joint.head.weight int8+2:4"]) t.true((found as string[]).includes(line), line);
});

test("what the GPU has no kernels for is refused before anything begins", async (t) => {
  const refused = (change: object, message: RegExp): void =>
    void t.throws(() => placeForTraining(fresh("parakeet_ctc", change)), { code: "UNSUPPORTED_MODEL", message });
  refused(
    { subsampling_conv_channels: 12 },
    /^the model has subsampling_conv_channels 12; on the GPU it must be a multiple of 8; train it with device "cpu"$/,
  );
  refused({ intermediate_size: 60 }, /intermediate_size 60/);
  refused({ num_attention_heads: 4 }, /has heads of 4 values; on the GPU they are trained with 8, 16, .. 128/);
  const durations = Array.from({ length: 17 }, (_, i) => i);
  const timed = describeModel({ ...configOf("parakeet_tdt"), durations }, "config.json").network(new FreshWeights(5));
  t.throws(() => placeForTraining(timed), {
    code: "UNSUPPORTED_MODEL",
    message: /has 17 durations, more than 16, which the GPU does not train/,
  });
  refused({ conv_kernel_size: 129 }, /has conv_kernel_size 129; on the GPU it can be up to 128/);
  const odd = folderOf("odd", {
    ...trainableConfigs["parakeet_ctc"],
    vocab_size: 61,
    pad_token_id: 60,
    encoder_config: { ...encoder, conv_kernel_size: 129 },
  });
  await t.throwsAsync(compress("refused", "cuda", [{ modifiers: [{ type: "quantization", spec: "int4" }], training }], odd), {
    code: "UNSUPPORTED_MODEL",
    message: /conv_kernel_size 129/,
  });
  t.false(existsSync(path("refused.run")));
  t.throws(() => placeForTraining({}, "something"), {
    code: "UNSUPPORTED_MODEL",
    message: /^something is a network of no family that the GPU trains; train it with device "cpu"$/,
  });
});
