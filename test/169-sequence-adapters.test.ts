/** Adapters of sequence-to-sequence models: learned through encoder and decoder. */
import "./gpu.js";
import { copyFileSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  AdapterBase,
  adaptSpeaker,
  adaptSpeakers,
  DeviceTensor,
  evaluate,
  loadModel,
  memoryStatistics,
  readAdapter,
  readManifest,
  readSafetensors,
  Recognizer,
  resetPeakMemory,
  Tape,
  Tensor,
  tidy,
  Transcriber,
  writeAdapter,
  writeSafetensors,
  type Adapter,
} from "../lib/index.js";
import { freshAdapter } from "../lib/adapt/adapter.js";
import { defaultTargets, resolvedSettings } from "../lib/adapt/adapter_settings.js";
import { AdapterTraining } from "../lib/adapt/adapter_training.js";
import { learningNetwork } from "../lib/adapt/learning_network.js";
import { selectLayers } from "../lib/adapt/adaptable_layers.js";
import { spokenTexts, type SpokenText } from "../lib/adapt/speaker_speech.js";
import { relu } from "../lib/ops/relu.js";
import { randomAdapter } from "./adapters.js";
import { usmLite } from "./command_line.js";
import { checkGradients, randomTensor } from "./gradient.js";
import { compressRounded } from "./recipes.js";
import { writeCohere, writeSpokenLetters, writeWhisper } from "./sequence_models.js";
import { temporaryFolder, tones } from "./tiny_model.js";

const folder = temporaryFolder("sequence-adapters");
test.after.always(folder.clean);
const path = (...names: string[]): string => join(folder.path, ...names);

const whisper = writeWhisper(path("whisper"));
const cohere = writeCohere(path("cohere"));
const manifest = writeSpokenLetters(folder.path);
const utterances = readManifest(manifest);
const settings = { rank: 2, epochs: 2, learningRate: 0.1, dropout: 0.05, batchSeconds: 2, targets: ["*"], language: "en" };

test("relu has its gradient, and NaN stays", (t) => {
  checkGradients(t, ([x]) => relu(x as Tensor), [randomTensor([5, 7], 1)]);
  const x = Tensor.from([-1, NaN, 2, 0], [2, 2]);
  t.deepEqual([...relu(x).toArray()], [0, NaN, 2, 0]);
  const onGpu = (): [Float32Array, Float32Array] =>
    tidy(() => {
      const input = DeviceTensor.from(Tensor.from([-1, 3, 2, -0.5], [2, 2]));
      input.requiresGrad = true;
      using tape = new Tape();
      const y = tape.record(() => relu(input));
      tape.backward(y, DeviceTensor.from(Tensor.from([1, 2, 3, 4], [2, 2])));
      return [y.toArray(), (tape.gradientOf(input) as Tensor).toArray()];
    });
  t.deepEqual(
    onGpu().map((values) => [...values]),
    [
      [0, 3, 2, 0],
      [0, 2, 3, 0],
    ],
  );
});

test("an adapter lowers the loss of speech that it was not learned from, on packed weights that stay as they are", async (t) => {
  for (const [float, spec] of [
    [whisper, "nf4/g64/dq"],
    [cohere, "int4+2:4"],
  ] as const) {
    const base = await compressRounded(float, spec);
    const before = readFileSync(join(base, "model.safetensors"));
    const model = loadModel(base);
    const { adapter, report } = await adaptSpeaker(model, utterances, settings);
    t.like(report, { kept: "speaker", device: "cpu", utterances: 4 }, JSON.stringify(report));
    t.true(report.adapted.loss < 0.97 * report.base.loss, JSON.stringify(report));
    t.deepEqual(readFileSync(join(base, "model.safetensors")), before);
    for (const name of model.network.blockWeights()) t.false(model.network.parameters().has(name), `${name} is still packed`);
    const layers = [...adapter.factors.keys()];
    for (const part of ["encoder.layers.0.self_attn.q_proj", "decoder.layers.0.self_attn.v_proj", "decoder.layers.0.encoder_attn.k_proj"])
      t.true(layers.includes(`model.${part}.weight`), part);
    t.true(layers.some((name) => /decoder\.layers\.0\.(mlp\.)?fc1/.test(name)));
    t.false(layers.some((name) => /relative_k_proj|embed|proj_out|decoder\.proj/.test(name)));

    const out = path(`adapter-${spec.length}`);
    writeAdapter(out, adapter, new AdapterBase(model), { dropout: 0, training: {} });
    using read = readAdapter(out, new AdapterBase(loadModel(base)));
    for (const [name, { down, up }] of adapter.factors) {
      t.deepEqual(read.factors.get(name)?.down.toArray(), down.toArray());
      t.deepEqual(read.factors.get(name)?.up.toArray(), up.toArray());
    }
    using file = readSafetensors(join(out, "adapter_model.safetensors"));
    t.deepEqual(file.shape("base_model.model.model.decoder.layers.0.self_attn.q_proj.lora_A.weight"), [2, 32]);
    t.throws(() => readAdapter(out, new AdapterBase(loadModel(float))), { code: "ADAPTER_MISMATCH" });
    if (float === cohere) continue;
    const again = await adaptSpeaker(loadModel(base), utterances, settings);
    for (const [name, { up }] of adapter.factors) t.deepEqual(again.adapter.factors.get(name)?.up.toArray(), up.toArray(), name);
  }
});

test("speakers share an adapter, and one learns from what the model itself hears", async (t) => {
  const model = loadModel(cohere);
  const named = utterances.map((utterance, index) => ({ ...utterance, speaker: `speaker-${index % 3}` }));
  const { adapter: shared, report } = await adaptSpeakers(model, named, { ...settings, targets: ["re:.*decoder.*attn.*"] });
  t.like(report, { speakers: 3, heldOutSpeakers: 1, heldOutUtterances: 1, kept: "shared" });
  t.true(report.adapted.loss < report.base.loss);
  const self = await adaptSpeaker(model, utterances, { ...settings, epochs: 1, shared, unsupervised: true });
  t.is(self.report.utterances + self.report.unsure, 4);
  t.true(self.report.unsure > 0);
});

test("by default the projections of all attentions are adapted", async (t) => {
  const { adapter } = await adaptSpeaker(loadModel(whisper), utterances.slice(0, 2), { language: "en", epochs: 1, rank: 1 });
  const names = [...adapter.factors.keys()];
  const projections = ["q_proj", "k_proj", "v_proj", "out_proj"];
  const attentions = ["encoder.layers.0.self_attn", "decoder.layers.0.self_attn", "decoder.layers.0.encoder_attn"];
  t.deepEqual(
    names.sort(),
    attentions.flatMap((attention) => projections.map((name) => `model.${attention}.${name}.weight`)).sort(),
    defaultTargets.join(),
  );
});

test("adapters of the decoder alone keep no activations of the encoder, and learn the same", async (t) => {
  const model = loadModel(whisper);
  const [speech] = await spokenTexts(model, utterances, { language: "en" });
  const { layers } = new AdapterBase(model);
  const learn = (targets: string[]): { losses: number[]; bytes: number } => {
    using adapter = freshAdapter(selectLayers(layers, targets), 1, 1);
    const training = new AdapterTraining(
      learningNetwork(model).network,
      new Map([["a", adapter]]),
      16,
      resolvedSettings({ specAugment: undefined, dropout: 0, learningRate: 0.05 }),
    );
    const before = memoryStatistics().bytesInUse;
    resetPeakMemory();
    const step = (): number => training.step([speech as SpokenText], [{ adapter, learns: true }]);
    const losses = [step()];
    const bytes = memoryStatistics().peakBytes - before;
    losses.push(step());
    training.dispose();
    return { losses, bytes };
  };
  const [own, both] = [learn(["model.decoder.*"]), learn(["model.decoder.*", "*.encoder.layers.0.fc2"])] as const;
  t.is(own.losses[0], both.losses[0]);
  t.true((own.losses[1] as number) < (own.losses[0] as number));
  t.true(own.bytes < 0.7 * both.bytes, `${own.bytes} and ${both.bytes} bytes`);
});

test("misuse is a coded error before anything is heard", async (t) => {
  const invalid = { code: "INVALID_ARGUMENT" } as const;
  const missing = [{ ...utterances[0], audioPath: path("nowhere.wav") }, utterances[1]] as typeof utterances;
  for (const learn of [adaptSpeaker, adaptSpeakers] as const) {
    await t.throwsAsync(learn(loadModel(whisper), missing, { targets: ["*"] }), {
      ...invalid,
      message: /needs the language of the speech.*en/,
    });
    await t.throwsAsync(learn(loadModel(whisper), missing, { language: "fr" }), { ...invalid, message: /no language "fr"/ });
    await t.throwsAsync(learn(loadModel(cohere), missing, {}), { ...invalid, message: /must be told the language; it knows en, de/ });
    await t.throwsAsync(learn(loadModel(whisper), missing, { ...settings, targets: ["*.embed_tokens"] }), {
      ...invalid,
      message: /matches no layer.*model\.encoder\.layers\.0\.self_attn\.q_proj/,
    });
  }
  const silent = utterances.map((utterance) => ({ ...utterance, text: " " }));
  for (const model of [whisper, cohere])
    await t.throwsAsync(adaptSpeaker(loadModel(model), silent, settings), {
      code: "BAD_MANIFEST",
      message: /manifest\.jsonl:1: its transcript is empty/,
    });
});

test("what no window and no decoder holds is left out, and said to be", async (t) => {
  const long = readManifest(manifest).map((utterance, index) => ({
    ...utterance,
    ...(index === 0 ? { duration: 1.2 } : {}),
    ...(index === 1 ? { text: "a hat ".repeat(9) } : {}),
  }));
  const said: string[] = [];
  const spoken = await spokenTexts(loadModel(whisper), long, { language: "en", onStatus: (sentence) => said.push(sentence) });
  t.is(spoken.length, 2);
  t.deepEqual(said, [
    "leaving out 1 utterances that are longer than the model's window of 1 s",
    "leaving out 1 utterances whose transcripts are longer than the 24 tokens of the model's decoder",
  ]);
  await t.throwsAsync(spokenTexts(loadModel(whisper), long.slice(0, 1), { language: "en" }), {
    code: "BAD_MANIFEST",
    message: /every utterance is longer/,
  });
});

/** The same model with what an adapter adds put into its weights. */
function merged(float: string, adapter: Adapter): string {
  const out = `${float}-merged`;
  mkdirSync(out);
  for (const file of ["config.json", "preprocessor_config.json", "generation_config.json", "tokenizer.json"])
    copyFileSync(join(float, file), join(out, file));
  const entries = new Map<string, Tensor>();
  using weights = readSafetensors(join(float, "model.safetensors"));
  for (const name of weights.names()) entries.set(name, weights.tensor(name));
  for (const [name, { down, up }] of adapter.factors) {
    const [weight, a, b] = [(entries.get(name) as Tensor).toArray(), down.toArray(), up.toArray()];
    const [rank, input] = down.shape as [number, number];
    const columns = up.dim(1);
    for (let r = 0; r < rank; r++)
      for (let i = 0; i < columns; i++)
        for (let j = 0; j < input; j++)
          weight[i * input + j] = (weight[i * input + j] as number) + (b[r * columns + i] as number) * (a[r * input + j] as number);
    entries.set(name, Tensor.from(weight, [columns, input]));
  }
  writeSafetensors(join(out, "model.safetensors"), entries);
  return out;
}

test("speakers are written for with their adapters, greedily and by a beam, as by a model that has them in its weights", async (t) => {
  const base = new AdapterBase(loadModel(whisper));
  const [ann, bob] = [randomAdapter(base, 2, 1), randomAdapter(base, 3, 2)];
  const store = path("speakers");
  mkdirSync(store);
  for (const [name, adapter] of [
    ["ann", ann],
    ["bob", bob],
  ] as const)
    writeAdapter(join(store, name), adapter, base, { dropout: 0, training: {} });
  const speech = tones(0.9, 3);
  const ids = ({ tokens }: { tokens: readonly { id: number }[] }): number[] => tokens.map(({ id }) => id);
  const into = loadModel(merged(whisper, ann));
  for (const beamWidth of [1, 3]) {
    const adapted = new Recognizer(loadModel(whisper), { language: "en", beamWidth, adapter: join(store, "ann") }).transcribe(speech);
    const expected = new Recognizer(into, { language: "en", beamWidth }).transcribe(speech);
    t.true(adapted.tokens.length > 0);
    t.deepEqual(ids(adapted), ids(expected), `${beamWidth} hypotheses`);
    t.true(Math.abs(adapted.logProbability - expected.logProbability) < 1e-3 * Math.abs(expected.logProbability));
  }
  await using transcriber = await Transcriber.load({ model: whisper, language: "en", adapters: store });
  const together = await Promise.all(
    [{}, { speaker: "ann" }, { speaker: "bob" }, {}].map((options) => transcriber.transcribe(speech, options)),
  );
  const recognizer = new Recognizer(loadModel(whisper), { language: "en" });
  const alone = [undefined, ann, bob, undefined].map((adapter) => recognizer.transcribeBatch([speech], undefined, adapter)[0]);
  t.deepEqual(together, alone as never);
  t.notDeepEqual(ids(together[1] as never), ids(together[0] as never));
});

test.serial("the command learns what the others use", async (t) => {
  const out = path("learned");
  const adapt = [
    "adapt",
    "--model",
    whisper,
    "--data",
    manifest,
    "--out",
    out,
    "--rank",
    "1",
    "--epochs",
    "1",
    "--learning-rate",
    "0.05",
    "--batch-seconds",
    "6",
  ];
  const { status, stdout, stderr } = await usmLite(...adapt, "--language", "en", "--device", "cpu", "--json");
  t.is(status, 0, stderr);
  t.like(JSON.parse(stdout), { device: "cpu", kept: "speaker", utterances: 4 });
  const { wer } = await evaluate(new Recognizer(loadModel(whisper), { language: "en", adapter: out }), utterances);
  t.true(wer > 0);
});
