/** Adapters that learn on the GPU. */
import { assertClose, realGpu } from "./gpu.js";
import { existsSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  AdapterBase,
  adaptSpeaker,
  compressModel,
  DeviceTensor,
  gpuMemoryStatistics,
  loadModel,
  readAdapter,
  readManifest,
  Tape,
  Tensor,
  tidy,
} from "../lib/index.js";
import type { JsonObject } from "../lib/checkpoint/json_file.js";
import { freshAdapter } from "../lib/adapt/adapter.js";
import { adaptableLayers } from "../lib/adapt/adaptable_layers.js";
import { resolvedSettings } from "../lib/adapt/adapter_settings.js";
import { AdapterTraining } from "../lib/adapt/adapter_training.js";
import { learningNetwork, loadForLearning } from "../lib/adapt/learning_network.js";
import { spokenTexts } from "../lib/adapt/speaker_speech.js";
import { DeviceParameter } from "../lib/device/device_parameter.js";
import { featuresOnDevice, removeFromGpu } from "../lib/device/placement.js";
import { placeFrozen } from "../lib/models/device_training.js";
import { describeModel } from "../lib/models/model_folder.js";
import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { trainableNetwork } from "../lib/models/trainable.js";
import { withAdapters } from "../lib/nn/adapter_scope.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { lowRankSum } from "../lib/ops/low_rank.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { tuneLanguageModel } from "../lib/transcribe/language_model_tuning.js";
import { packedTiny, randomAdapter } from "./adapters.js";
import { usmLite } from "./command_line.js";
import { heldByBfloat16 } from "./device_steps.js";
import { randomTensor } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { temporaryFolder, tones, writeTinyModel, writeWav } from "./tiny_model.js";
import { OneBatch, trainableConfigs } from "./trainable_models.js";

const folder = temporaryFolder("device-adapt");
test.after.always(folder.clean);
const float = writeTinyModel(join(folder.path, "float"), { blocks: 1 });
const packed = await packedTiny(float, join(folder.path, "packed"));
const manifest = join(folder.path, "manifest.jsonl");
writeFileSync(
  manifest,
  ["THE CAT", "A DOG", "THE HAT"]
    .map((text, index) =>
      JSON.stringify({
        audio_filepath: writeWav(join(folder.path, `${index}.wav`), tones(0.8, index)),
        duration: 0.8,
        text,
        speaker: index,
      }),
    )
    .join("\n"),
);
const spoken = readManifest(manifest);
const ofOne = spoken.slice(0, 2).map((utterance) => ({ ...utterance, speaker: "ann" }));

/** Values that bfloat16 holds, so that both devices compute with the same. */
const rounded = (shape: readonly number[], seed: number): Tensor => tidy(() => DeviceTensor.from(randomTensor(shape, seed)).toTensor());

test.serial("a low-rank sum and its gradients are those of the CPU", (t) => {
  for (const [rows, input, out, rank, probability] of [
    [5, 16, 24, 1, 0],
    [133, 40, 32, 9, 0.25],
    [33, 24, 8, 4, 0],
  ] as const) {
    const tensors = {
      y: rounded([rows, out], 1),
      x: rounded([rows, input], 2),
      down: randomTensor([rank, input], 3),
      up: randomTensor([rank, out], 4),
    };
    const seed = rounded([rows, out], 5);
    const run = (device: "cpu" | "cuda", learns: boolean): Record<string, Float32Array> =>
      tidy(() => {
        const place = (tensor: Tensor, name: string): Tensor => {
          if (device === "cpu") return tensor.clone();
          if (name.length === 1) return DeviceTensor.from(tensor);
          return learns ? DeviceParameter.place(tensor) : tensor.clone(); // factors that do not learn go to the GPU when they are needed
        };
        const placed = Object.fromEntries(Object.entries(tensors).map(([name, tensor]) => [name, place(tensor, name)])) as typeof tensors;
        const { y, x, down, up } = placed;
        for (const tensor of learns ? [y, x, down, up] : [y, x]) tensor.requiresGrad = true;
        using tape = new Tape();
        const options = { scale: 0.5, ...(probability > 0 && { dropout: { probability, seed: 7 } }) };
        const sum = tape.record(() => lowRankSum(y, x, { down, up }, options));
        const values = sum.toArray();
        tape.backward(sum, device === "cpu" ? seed.clone() : DeviceTensor.from(seed));
        const gradients = Object.entries(placed).flatMap(([name, tensor]) =>
          tensor.requiresGrad ? [[name, (tape.gradientOf(tensor) as Tensor).toArray()] as const] : [],
        );
        for (const factor of [down, up]) removeFromGpu(factor);
        return { sum: values, ...Object.fromEntries(gradients) };
      });
    for (const learns of [true, false]) {
      const [expected, found] = [run("cpu", learns), run("cuda", learns)];
      t.deepEqual(Object.keys(found), Object.keys(expected));
      for (const [name, values] of Object.entries(expected))
        assertClose(t, found[name] as Float32Array, values, 1.5e-2, `${rows} rows, rank ${rank}, ${name}`);
    }
  }
  const [down, up] = [randomTensor([2, 8], 2), randomTensor([2, 8], 3)];
  down.requiresGrad = true;
  const misplaced = (): Tensor => tidy(() => lowRankSum(DeviceTensor.zeros([4, 8]), DeviceTensor.zeros([4, 8]), { down, up }));
  t.throws(misplaced, { code: "INVALID_ARGUMENT", message: /an adapter that learns is on the CPU/ });
});

/** Loss of a network with an adapter on all layers, and the gradients of its factors. */
function gradients(family: string, device: "cpu" | "cuda"): { loss: number; factors: Map<string, Float32Array> } {
  return tidy(() => {
    const { encoder_config, ...config } = trainableConfigs[family] as Record<string, object>;
    const larger = encoder_config && {
      encoder_config: { ...encoder_config, hidden_size: 32, num_hidden_layers: 1, intermediate_size: 64, subsampling_conv_channels: 16 },
    };
    const fresh = describeModel({ ...config, ...larger } as JsonObject, family).network(new FreshWeights(5));
    const onCpu = trainableNetwork({ network: fresh, folder: family });
    for (const [name, tensor] of onCpu.parameters()) {
      if (/([qk]_proj|linear_[qk])\.weight$/.test(name)) tensor.write(tensor.toArray().map((value) => 2 * value)); // fresh attention is the mean of all frames
      if (/embed_tokens|embed_positions|pos_emb/.test(name)) tensor.write(tensor.toArray().map((value) => 10 * value)); // fresh embeddings are small
    }
    const batch = new OneBatch(onCpu).batch();
    const features = featuresOnDevice(heldByBfloat16(batch.features), device);
    const layers = adaptableLayers({
      network: onCpu,
      linearShapes: new Map(onCpu.blockWeights().map((name) => [name, (onCpu.parameters().get(name) as Tensor).shape])),
    });
    using adapter = freshAdapter(layers, 3, 1, device);
    for (const { down, up } of adapter.factors.values()) {
      up.write(
        randomTensor(up.shape, 9)
          .toArray()
          .map((value) => 0.3 * value),
      ); // a fresh one lets no gradient through to `down`
      down.requiresGrad = up.requiresGrad = true;
    }
    const network = device === "cpu" ? onCpu : placeFrozen(onCpu);
    using tape = new Tape();
    const scope = {
      kind: "all",
      adapters: [{ factors: adapter.factors, scale: 0.7 }],
      dropout: { probability: 0.1, random: new RandomStream(4) },
    } as const;
    const context = { training: false, random: new RandomStream(3), step: 0 };
    const { loss } = tape.record(() => withAdapters(scope, () => network.loss({ ...batch, features }, context)));
    tape.backward(loss);
    const factors = [...adapter.factors].flatMap(([name, pair]) =>
      (["down", "up"] as const).map((part) => [`${name} ${part}`, (tape.gradientOf(pair[part]) as Tensor).toArray()] as const),
    );
    for (const one of new Set([onCpu, network])) one.dispose();
    return { loss: loss.toArray()[0] as number, factors: new Map(factors) };
  });
}

test.serial("gradients of adapters of every family that the GPU trains are those of the CPU", (t) => {
  const dot = (a: Float32Array, b: Float32Array): number => a.reduce((sum, value, i) => sum + value * (b[i] as number), 0);
  for (const family of ["lasr_ctc", "parakeet_ctc", "parakeet_rnnt", "wav2vec2", "wav2vec2-conformer relative", "whisper", "cohere_asr"]) {
    const [expected, found] = [gradients(family, "cpu"), gradients(family, "cuda")];
    t.true(Math.abs(found.loss / expected.loss - 1) < 1e-2, `${family}: loss ${found.loss}, not ${expected.loss}`);
    t.deepEqual([...found.factors.keys()], [...expected.factors.keys()]);
    const largest = Math.max(...[...expected.factors.values()].map((gradient) => Math.sqrt(dot(gradient, gradient))));
    for (const [name, gradient] of expected.factors) {
      const own = found.factors.get(name) as Float32Array;
      const [length, ownLength] = [Math.sqrt(dot(gradient, gradient)), Math.sqrt(dot(own, own))];
      const cosine = dot(gradient, own) / (length * ownLength);
      t.true(
        cosine > 0.99 && Math.abs(ownLength - length) < 0.05 * length + 0.01 * largest,
        `${family} ${name}: cosine ${cosine}, lengths ${ownLength} and ${length}`,
      );
    }
  }
});

test.serial("steps on a float and on a packed base lose what those of the CPU do", async (t) => {
  const settings = resolvedSettings({ rank: 2, learningRate: 0.1, dropout: 0.05 });
  for (const path of [float, packed]) {
    const losses = async (device: "cpu" | "cuda"): Promise<Float32Array> => {
      const model = loadModel(path, { device });
      const speech = await spokenTexts(model, ofOne);
      using learner = learningNetwork(model);
      t.is(learner.device, device);
      if (device === "cuda") {
        for (const name of model.network.blockWeights()) t.is((learner.network.parameters().get(name) as DeviceTensor).type, "bfloat16");
      }
      using adapter = freshAdapter(new AdapterBase(model).layers, 2, 1, device);
      const training = new AdapterTraining(learner.network, new Map([["a", adapter]]), model.frontEnd.config.featureSize, settings);
      const trained = [{ adapter, learns: true }];
      const values = Array.from({ length: 3 }, () => training.step(speech, trained));
      const after = training.loss(speech, trained);
      training.dispose();
      model.network.dispose();
      return Float32Array.from([...values, after]);
    };
    const before = gpuMemoryStatistics().bytesInUse;
    const [expected, found] = [await losses("cpu"), await losses("cuda")];
    t.true(gpuMemoryStatistics().bytesInUse - before <= 4 * 4096, "all memory of the GPU is given back, but for the stream's counters");
    assertClose(t, found, expected, 1e-2, path);
    t.true((found[3] as number) < 0.95 * (found[0] as number), `${found.join(" ")}`);
  }
});

test.serial("an adapter of a speaker is learned on the GPU and used on the CPU", async (t) => {
  const settings = { rank: 2, epochs: 1, learningRate: 0.1, batchSeconds: 2, dropout: 0.05, targets: ["*"] };
  const model = loadForLearning(packed, "cuda", () => {});
  const { adapter, report } = await adaptSpeaker(model, ofOne, settings);
  t.like(report, { kept: "speaker", device: "cuda", epochs: 1 });
  // What was learned there lowers the loss here.
  const onCpu = loadModel(packed);
  const training = new AdapterTraining(
    learningNetwork(onCpu).network,
    new Map(),
    onCpu.frontEnd.config.featureSize,
    resolvedSettings(settings),
  );
  const speech = await spokenTexts(onCpu, ofOne);
  const [without, withIt] = [training.loss(speech, []), training.loss(speech, [{ adapter, learns: false }])];
  t.true(withIt < without, `${without} to ${withIt}`);
  // On top of a shared one, from what the model hears with that.
  using shared = randomAdapter(new AdapterBase(model), 1, 1);
  const stacked = await adaptSpeaker(model, ofOne, { ...settings, shared, targets: ["*.q_proj"], unsupervised: true });
  t.like(stacked.report, { device: "cuda", utterances: 2 });
  for (const one of [adapter, stacked.adapter]) {
    t.true([...one.factors.values()].every(({ down, up }) => down.device === "cpu" && up.device === "cpu"));
    one.dispose();
  }
  model.network.dispose();
});

test.serial("a base with zero points hears there, and learning on it gives the same bits again", async (t) => {
  const zeroPoints = join(folder.path, "zero-points");
  await compressModel({ model: float, recipe: roundToNearest("uint4/g32"), manifest: undefined, out: zeroPoints });
  const model = loadForLearning(zeroPoints, "auto", () => {});
  t.is(model.device, "cuda");
  using learner = learningNetwork(model);
  const speech = await spokenTexts(model, ofOne.slice(0, 1));
  const learn = (): { losses: number[]; factors: Float32Array[] } => {
    using adapter = freshAdapter(new AdapterBase(model).layers, 1, 1, "cuda");
    const training = new AdapterTraining(
      learner.network,
      new Map([["a", adapter]]),
      model.frontEnd.config.featureSize,
      resolvedSettings({ learningRate: 0.1 }),
    );
    const losses = Array.from({ length: 3 }, () => training.step(speech, [{ adapter, learns: true }]));
    training.dispose();
    return { losses, factors: [...adapter.factors.values()].flatMap(({ down, up }) => [down.toArray(), up.toArray()]) };
  };
  const [once, again] = [learn(), learn()];
  t.deepEqual(again, once);
  t.true((once.losses[2] as number) < (once.losses[0] as number), once.losses.join(" "));
});

test.serial("what the GPU does not train learns on the CPU, or is refused", (t) => {
  const window = writeRandomModel(
    join(folder.path, "window"),
    { ...trainableConfigs["parakeet_tdt"] },
    { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 16 },
  );
  t.throws(() => loadForLearning(window, "cuda", () => {}), { code: "UNSUPPORTED_MODEL", message: /window of frames.*device "cpu"/ });
  const said: string[] = [];
  t.is(loadForLearning(window, "auto", (sentence) => said.push(sentence)).device, "cpu");
  t.regex(said.join("\n"), /^training on the CPU: .*window of frames/);
  t.is(loadForLearning(float, "cpu", (sentence) => said.push(sentence)).device, "cpu");
  t.is(said.length, 1);
  // Through weights of inference no gradients would come back.
  for (const folderOf of [float, packed]) {
    const model = loadModel(folderOf, { device: "cuda" });
    using adapter = freshAdapter(new AdapterBase(model).layers, 1, 1, "cuda");
    const network = model.network as LasrForCtc;
    const batch = new OneBatch(network).batch();
    const scope = { kind: "all", adapters: [{ factors: adapter.factors, scale: 1 }] } as const;
    const pass = (): unknown =>
      network.loss({ ...batch, features: DeviceTensor.from(batch.features) }, { training: false, random: new RandomStream(3), step: 0 });
    t.throws(() => tidy(() => new Tape().record(() => withAdapters(scope, pass))), {
      code: "INVALID_ARGUMENT",
      message: /for inference.*adaptSpeaker/,
    });
    network.dispose();
  }
});

test.serial("the commands compute where they are told", async (t) => {
  const out = join(folder.path, "learned");
  const adapt = [
    "adapt",
    "--model",
    packed,
    "--data",
    manifest,
    "--speakers",
    "--rank",
    "1",
    "--epochs",
    "1",
    "--json",
    "--device",
    "cuda",
    "--out",
    out,
  ];
  if (!realGpu) {
    process.env["USMLITE_EMULATED_GPU"] = "none";
    for (const command of [adapt, ["tune", "--model", float, "--data", manifest, "--device", "cuda"]]) {
      const { status, stderr } = await usmLite(...command);
      t.is(status, 1);
      t.regex(stderr, /\[NO_GPU\]/);
    }
    delete process.env["USMLITE_EMULATED_GPU"];
    for (const path of [out, join(float, "language_model.json")]) t.false(existsSync(path), path);
  }
  const { status, stdout, stderr } = await usmLite(...adapt);
  t.is(status, 0, stderr);
  t.like(JSON.parse(stdout), { device: "cuda", speakers: 3, heldOutSpeakers: 1 });
  t.regex(stderr, /^training on /);
  using adapter = readAdapter(out, new AdapterBase(loadModel(packed)));
  t.true(adapter.parameters > 0);
  const config = JSON.parse(readFileSync(join(out, "adapter_config.json"), "utf8")) as { usm_lite: { training: object } };
  t.like(config.usm_lite.training, { device: "cuda" });
  const tried = await tuneLanguageModel({ model: float, data: manifest, device: "cuda" });
  t.true(tried.length > 1 && existsSync(join(float, "language_model.json")));
});
