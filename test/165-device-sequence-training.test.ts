import { assertClose } from "./gpu.js";
import { copyFileSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import type { JsonObject } from "../lib/checkpoint/json_file.js";
import {
  compressModel,
  DeviceTensor,
  loadModel,
  parseRecipe,
  placeForTraining,
  SequenceOffsets,
  Tape,
  Tensor,
  tidy,
  Trainer,
  warmupConstant,
  type BatchSource,
  type TrainingBatch,
} from "../lib/index.js";
import { describeModel } from "../lib/models/model_folder.js";
import { trainableNetwork, type TrainableNetwork } from "../lib/models/trainable.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { assertSameStep, heldByBfloat16, trainingStep, type Step } from "./device_steps.js";
import { randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { temporaryFolder, tones, writeWav } from "./tiny_model.js";

const folder = temporaryFolder("device-sequence-training");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);

const whisper = {
  model_type: "whisper",
  vocab_size: 61,
  d_model: 32,
  encoder_layers: 1,
  decoder_layers: 1,
  encoder_attention_heads: 2,
  decoder_attention_heads: 2,
  encoder_ffn_dim: 64,
  decoder_ffn_dim: 64,
  num_mel_bins: 16,
  max_source_positions: 25,
  max_target_positions: 16,
  eos_token_id: 6,
  decoder_start_token_id: 5,
};
const configs = {
  whisper,
  cohere_asr: {
    model_type: "cohere_asr",
    vocab_size: 61,
    hidden_size: 32,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 64,
    max_position_embeddings: 16,
    eos_token_id: 6,
    tie_word_embeddings: true,
    encoder_config: {
      hidden_size: 32,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      intermediate_size: 64,
      subsampling_conv_channels: 16,
      num_mel_bins: 16,
    },
  },
} as const satisfies Record<string, JsonObject>;
type Family = keyof typeof configs;

function fresh(family: Family, change: JsonObject = {}): TrainableNetwork {
  const network = describeModel({ ...configs[family], ...change }, "config.json").network(new FreshWeights(5));
  return trainableNetwork({ network, folder: family });
}

/** Fresh biases are zero, where relu has its kink, fresh attention is the mean of all frames, fresh embeddings are small and fresh statistics those of nothing. */
function warmedUp(family: Family): TrainableNetwork {
  const network = fresh(family);
  for (const [name, tensor] of network.parameters()) {
    if (/bias(_[uv])?$/.test(name)) tensor.write(tensor.toArray().map((_, i) => 0.1 * Math.sin(i + name.length)));
    if (/[qk]_proj\.weight$/.test(name)) tensor.write(tensor.toArray().map((value) => 2 * value));
    if (/embed_tokens|embed_positions|pos_emb|proj_out\.weight/.test(name)) tensor.write(tensor.toArray().map((value) => 10 * value));
  }
  for (const [name, tensor] of network.buffers())
    tensor.write(tensor.toArray().map((value, i) => value * 0.5 + (name.endsWith("mean") ? 0.1 : 0.2) * Math.cos(i) ** 2));
  return network;
}

/** The same utterances again and again; the last has a transcript that is longer than the decoder. */
function batchFor(network: TrainableNetwork, items: number): TrainingBatch {
  const windows = network.kind === "sequence-to-sequence" && network.fixedWindow;
  const offsets = new SequenceOffsets((windows ? [50, 50, 50] : [79, 62, 40]).slice(0, items));
  const values = Tensor.from(
    randomValues(offsets.frames * 16, 8).map((value) => 5 * value),
    [offsets.frames, 16],
  );
  const targets = [
    [5, 1, 2, 0, 4, 4, 1, 2, 3, 1, 2, 9, 33, 17, 60, 6],
    [5, 1, 2, 0, 4, 4, 1, 2, 3, 3, 40, 21, 0, 6],
    [5, ...new Array<number>(16).fill(3), 6],
  ].slice(0, items);
  return { features: heldByBfloat16(values), offsets, targets, audioSeconds: 1, labelSmoothing: 0.1 };
}

const stepIsThatOfTheCpu = (t: ExecutionContext, family: Family): void => {
  const step = (device: "cpu" | "cuda"): Step => {
    const fresh = (): TrainableNetwork => warmedUp(family);
    return tidy(() => trainingStep(fresh, batchFor(fresh(), 3), device, (network) => network.linearWeights())); // the embeddings' among them
  };
  const [expected, found] = [step("cpu"), step("cuda")];
  t.is(found.infeasible, 1);
  assertSameStep(t, found, expected, /^model\.encoder\.embed_positions\.weight$/);
};

for (const family of Object.keys(configs) as Family[])
  test.serial(`a training step on the GPU is that of the CPU: ${family}`, stepIsThatOfTheCpu, family);

test("a batch of which every transcript is left out has no loss and no gradients", (t) => {
  tidy(() => {
    const network = placeForTraining(fresh("whisper"));
    const batch = batchFor(network, 1);
    for (const parameter of network.parameters().values()) parameter.requiresGrad = true;
    using tape = new Tape();
    const targets = [new Array<number>(18).fill(3)];
    const { loss, infeasible } = tape.record(() =>
      network.loss(
        { ...batch, features: DeviceTensor.from(batch.features), targets },
        { training: true, random: new RandomStream(3), step: 0 },
      ),
    );
    tape.backward(loss);
    t.deepEqual([loss.toArray()[0], infeasible], [0, 1]);
    for (const [name, parameter] of network.parameters())
      t.true(
        tape
          .gradientOf(parameter)
          ?.toArray()
          .every((value) => value === 0) ?? true,
        name,
      );
  });
});

/** Losses of a run up to `totalSteps`, from the newest checkpoint in its folder if there is one. */
async function train(name: string, totalSteps: number): Promise<number[]> {
  const network = placeForTraining(fresh("whisper", { tie_word_embeddings: false }));
  const batches: BatchSource = { count: () => 1, batch: () => batchFor(network, 2) };
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

test.serial("a run on the GPU learns utterances by heart, and goes on to the same bits", async (t) => {
  const losses = await train("whisper", 3);
  t.true((losses[2] as number) < 0.9 * (losses[0] as number), losses.join(" "));
  for (const steps of [2, 3]) await train("resumed", steps);
  t.deepEqual(checkpoint("resumed", 3), checkpoint("whisper", 3));
});

const lossesIn = (...run: string[]): Float32Array =>
  Float32Array.from(
    readFileSync(path(...run, "metrics.jsonl"), "utf8")
      .trim()
      .split("\n"),
    (line) => (JSON.parse(line) as { loss: number }).loss,
  );

test.serial("recipes train Whisper on the GPU, in whole numbers too", async (t) => {
  const config = {
    ...whisper,
    vocab_size: 420,
    num_mel_bins: 80,
    max_source_positions: 50,
    max_target_positions: 40,
    decoder_start_token_id: 310,
    eos_token_id: 300,
  };
  const generation = {
    decoder_start_token_id: 310,
    eos_token_id: 300,
    no_timestamps_token_id: 309,
    lang_to_id: { "<|en|>": 301 },
    task_to_id: { transcribe: 306 },
  };
  const model = writeRandomModel(
    path("float"),
    config,
    { feature_extractor_type: "WhisperFeatureExtractor", feature_size: 80, chunk_length: 1 },
    { generation },
  );
  copyFileSync(
    join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text", "tokenizer_byte_level.json"),
    join(model, "tokenizer.json"),
  );
  const manifest = path("manifest.jsonl");
  writeWav(path("clip.wav"), tones(1, 1));
  writeFileSync(manifest, JSON.stringify({ audio_filepath: "clip.wav", duration: 1, text: "A HAT" }));
  const training = { steps: 2, learningRate: 3e-3, warmUpSteps: 1, speedPerturbation: false, specAugment: false, labelSmoothing: 0.1 };
  const stages = [
    {
      name: "tune",
      modifiers: [
        { type: "sparsity", pattern: "2:4", start: 1 },
        { type: "quantization", spec: "int4" },
        { type: "quantization", targets: ["*.fc1", "*.conv2"], spec: "int8", activations: "int8" },
        { type: "quantization", targets: ["model.decoder.embed_tokens"], spec: "int8" },
        { type: "distillation", hidden: 0.5 },
      ],
      training,
    },
  ];
  for (const device of ["cuda", "cpu"] as const) {
    t.true(
      await compressModel({
        model,
        recipe: parseRecipe(JSON.stringify({ stages }), "r.yaml"),
        manifest,
        out: path(`packed-${device}`),
        device,
        language: "en",
      }),
    );
  }
  assertClose(t, lossesIn("packed-cuda.run"), lossesIn("packed-cpu.run"), 2e-2, "losses");
  const [found, expected] = [loadModel(path("packed-cuda")), loadModel(path("packed-cpu"))].map(({ compression }) =>
    [...compression.specs].map(([name, { text }]) => `${name} ${text}`),
  );
  t.deepEqual(found, expected);
  for (const line of ["model.decoder.layers.0.encoder_attn.k_proj.weight int4+2:4", "model.decoder.embed_tokens.weight int8"])
    t.true((found as string[]).includes(line), line);
});

test("what the GPU has no kernels for is refused", (t) => {
  const refused = (family: Family, change: JsonObject, message: RegExp): void =>
    void t.throws(() => placeForTraining(fresh(family, change)), { code: "UNSUPPORTED_MODEL", message });
  refused(
    "whisper",
    { decoder_attention_heads: 8 },
    /^the model has heads of 4 values; on the GPU they are trained with 8, 16, .. 128; train it with device "cpu"$/,
  );
  refused("whisper", { d_model: 288 }, /has heads of 144 values/);
  refused("whisper", { num_mel_bins: 20 }, /has num_mel_bins 20; on the GPU it must be a multiple of 8/);
  refused("whisper", { decoder_ffn_dim: 60 }, /has decoder_ffn_dim 60/);
  refused("cohere_asr", { intermediate_size: 60 }, /has intermediate_size of the decoder 60/);
});
