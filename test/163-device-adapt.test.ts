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
  tidy,
} from "../lib/index.js";
import { freshAdapter } from "../lib/adapt/adapter.js";
import { resolvedSettings } from "../lib/adapt/adapter_settings.js";
import { AdapterTraining } from "../lib/adapt/adapter_training.js";
import { learningNetwork, loadForLearning } from "../lib/adapt/learning_network.js";
import { spokenTexts } from "../lib/adapt/speaker_speech.js";
import type { LasrForCtc } from "../lib/models/lasr/lasr_for_ctc.js";
import { withAdapters } from "../lib/nn/adapter_scope.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { tuneLanguageModel } from "../lib/transcribe/language_model_tuning.js";
import { packedTiny, randomAdapter } from "./adapters.js";
import { usmLite } from "./command_line.js";
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
  const narrow = writeRandomModel(
    join(folder.path, "narrow"),
    { ...trainableConfigs["parakeet_tdt"] },
    { feature_extractor_type: "ParakeetFeatureExtractor", feature_size: 16 },
  );
  const message = /subsampling_conv_channels 4; .* multiple of 8; train it with device "cpu"$/;
  t.throws(() => loadForLearning(narrow, "cuda", () => {}), { code: "UNSUPPORTED_MODEL", message });
  const said: string[] = [];
  t.is(loadForLearning(narrow, "auto", (sentence) => said.push(sentence)).device, "cpu");
  t.regex(said.join("\n"), /^training on the CPU: .*subsampling_conv_channels 4/);
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
