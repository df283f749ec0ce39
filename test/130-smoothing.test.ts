import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import test from "ava";
import { compressModel, InputMaxima, loadModel, parseRecipe, scaleColumns, smoothingScales, Tensor, tidy } from "../lib/index.js";
import { trainableNetwork } from "../lib/models/trainable.js";
import type { NormReaders } from "../lib/nn/norm_readers.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { languageOf, writeFamilyModel, writeShortCorpus, type FamilyName } from "./family_models.js";
import { randomTensor } from "./gradient.js";
import { editWeights, temporaryFolder, writeTinyModel } from "./tiny_model.js";
import { freshModel, OneBatch, trainableConfigs } from "./trainable_models.js";
import { rootMeanSquareError } from "./differences.js";

test("scales are those of the paper", (t) => {
  const weights = [Tensor.from([0.5, -4, 0, 1, 2, 0], [2, 3]), Tensor.from([-1, 1, 0], [1, 3, 1])];
  const inputs = Float32Array.from([16, 0.25, 3]);
  const close = (alpha: number, expected: readonly number[]): void =>
    smoothingScales(inputs, weights, alpha).forEach((scale, j) =>
      t.true(Math.abs(scale - (expected[j] as number)) < 1e-6 * scale, `alpha ${alpha}, input ${j}: ${scale}`),
    );
  close(0.5, [4, 0.5 / 2, 1]); // max|w| is 1, 4 and 0: nothing reads the last
  close(1, [16, 0.25, 1]);
  close(0, [1, 0.25, 1]);
  t.deepEqual(
    [...smoothingScales(Float32Array.from([0, 1e30, 1e-30]), [Tensor.from([1, 1, 1], [1, 3])], 1)].map(Math.log10).map(Math.round),
    [0, 5, -5],
  );
  t.deepEqual([...scaleColumns(weights[0] as Tensor, Float32Array.from([2, 3, 5])).toArray()], [1, -12, 0, 2, 6, 0]);
  t.deepEqual(scaleColumns(weights[1] as Tensor, inputs).shape, [1, 3, 1]);
});

test("scales without sense are refused", (t) => {
  const refuse = (inputs: number[], alpha: number, message: RegExp, weight = [1, 2]): void => {
    t.throws(() => smoothingScales(Float32Array.from(inputs), [Tensor.from(weight, [1, weight.length])], alpha), {
      code: "INVALID_ARGUMENT",
      message,
    });
  };
  for (const alpha of [-0.1, 1.1, NaN]) refuse([1, 1], alpha, /a number from 0 to 1/);
  refuse([1, 1, 1], 0.5, /takes 2 inputs, but there are 3 channels/);
  refuse([1, NaN], 0.5, /input 1 .* not finite/);
  refuse([Infinity, 1], 0.5, /input 0 .* not finite/);
  refuse([1, 1], 0.5, /input 1 .* not finite/, [1, NaN]);
  t.throws(() => scaleColumns(randomTensor([2, 3], 1), new Float32Array(2)), { code: "INVALID_ARGUMENT" });
});

test("maxima are over frames and batches, and NaN is not lost", (t) => {
  const inputs = new InputMaxima(["a", "b"]);
  inputs.observe("a", Tensor.from([1, -5, 2, 3], [2, 2]));
  inputs.observe("a", Tensor.from([-4, 0], [1, 2]));
  inputs.observe("other", Tensor.from([9, 9], [1, 2]));
  inputs.observe("b", Tensor.from([NaN, 1, 2, 3], [2, 2]));
  t.deepEqual([...inputs.of("a")], [4, 5]);
  t.deepEqual([...inputs.of("b")], [NaN, 3]);
  t.throws(() => inputs.of("other"), { code: "INVALID_ARGUMENT", message: /no input of "other"/ });
});

test("blocks say which norms their layers alone read", (t) => {
  const known = (family: string): readonly NormReaders[] => freshModel(family).normReaders?.() ?? [];
  const counts = Object.fromEntries(Object.keys(trainableConfigs).map((family) => [family, known(family).length]));
  // Four norms of a Conformer block, three where attention turns what it normalizes; two of a Transformer's encoder block, one more of an
  // adapter for the language, three of a decoder's block.
  t.deepEqual(counts, {
    lasr_ctc: 8,
    parakeet_ctc: 4,
    parakeet_rnnt: 4,
    parakeet_tdt: 4,
    wav2vec2: 2 + 1,
    "wav2vec2 with adapter": 0, // its norms come after sums
    hubert: 0,
    "wav2vec2-conformer relative": 4,
    "wav2vec2-conformer rotary": 3,
    "wav2vec2-bert": 4 + 1, // and the one before the projection
    "wav2vec2-bert with adapter": 3 + 1 + 1, // and that of the adapter's feed-forward module
    whisper: 2 + 2 * 3,
    cohere_asr: 4 + 3,
  });
  for (const family of Object.keys(trainableConfigs)) {
    const network = freshModel(family);
    for (const { norm, readers } of known(family)) for (const name of [...norm, ...readers]) t.true(network.parameters().has(name), name);
  }
  t.deepEqual(
    known("parakeet_ctc").find(({ norm }) => norm[0] === "encoder.layers.0.norm_self_att.weight"),
    {
      norm: ["encoder.layers.0.norm_self_att.weight", "encoder.layers.0.norm_self_att.bias"],
      readers: ["q_proj", "k_proj", "v_proj"].map((name) => `encoder.layers.0.self_attn.${name}.weight`),
    },
  );
  t.deepEqual(known("whisper").find(({ norm }) => norm[0] === "model.decoder.layers.1.encoder_attn_layer_norm.weight")?.readers, [
    "model.decoder.layers.1.encoder_attn.q_proj.weight",
  ]);
  t.false(known("wav2vec2-conformer rotary").some(({ norm }) => (norm[0] as string).includes("self_attn")));
});

const folder = temporaryFolder("smoothing");
test.after.always(folder.clean);
const manifest = writeShortCorpus(join(folder.path, "corpus"), 1);
const calibration = { utterances: 1 };

/** Makes channel 5 of every norm's output 200 times as large and its readers' columns as much smaller, and gives biases to norms that have one. */
function withOutliers(model: string): string {
  const known = trainableNetwork(loadModel(model)).normReaders?.() ?? [];
  editWeights(model, (entries) => {
    const change = (name: string, edit: (value: number, i: number) => number): void => {
      const entry = entries.get(name);
      if (!entry) throw new Error(`no ${name}`);
      entries.set(name, { ...entry, data: new Float32Array(Uint8Array.from(entry.data as Uint8Array).buffer).map(edit) } as never);
    };
    for (const {
      norm: [weight, bias],
      readers,
    } of known) {
      change(weight as string, (value, j) => (j === 5 ? 200 * value : value));
      if (bias) change(bias, (_, j) => (j === 5 ? 30 : 0.1 * j - 1));
      for (const name of readers) change(name, (value, i) => (i % 32 === 5 ? value / 200 : value));
    }
  });
  return model;
}

const lasr = withOutliers(writeTinyModel(join(folder.path, "lasr"), { languageModel: false }));
const others: readonly FamilyName[] = [
  "parakeet_ctc",
  "wav2vec2",
  "wav2vec2-conformer",
  "wav2vec2-conformer, rotary",
  "wav2vec2-bert",
  "whisper",
  "cohere_asr",
];
const models = { lasr, ...Object.fromEntries(others.map((family) => [family, withOutliers(writeFamilyModel(folder.path, family))])) };

type Settings = Record<string, unknown>;

async function compress(model: string, name: string, ...stages: Settings[][]): Promise<string> {
  const out = join(folder.path, name);
  const recipe = parseRecipe(JSON.stringify({ stages: stages.map((modifiers) => ({ modifiers })) }), "r");
  await compressModel({ model, recipe, manifest, out, ...languageOf(basename(model)) });
  return out;
}

/** Root of the relative mean square of what `model` puts out differently. */
function difference(model: string, original: string): number {
  const [found, expected] = [model, original].map((path) => {
    const network = trainableNetwork(loadModel(path));
    const { features, ...batch } = new OneBatch(network, 100).batch();
    const scaled = Tensor.from(
      features.toArray().map((value) => 4 * value - 4),
      features.shape,
    );
    const context = { training: false, random: new RandomStream(0), step: 0 };
    return tidy(() => (network.loss({ ...batch, features: scaled }, context).outputs?.logits as Tensor).toArray());
  }) as [Float32Array, Float32Array];
  return rootMeanSquareError(found, expected);
}

for (const [family, float] of Object.entries(models)) {
  test.serial(`${family}: the same in floats, and less lost to eight bits`, async (t) => {
    const rounding = { type: "round-to-nearest", spec: "int8" };
    const smoothed = await compress(float, `${family}-smoothed`, [{ type: "smooth", calibration }]);
    t.false(readFileSync(join(smoothed, "model.safetensors")).equals(readFileSync(join(float, "model.safetensors"))));
    const inFloats = difference(smoothed, float);
    t.true(inFloats < 1e-5, `in floats ${inFloats}`);
    if (family !== "lasr" && family !== "parakeet_ctc") return;
    const plain = difference(await compress(float, `${family}-w8a8`, [rounding]), float);
    const both = await compress(float, `${family}-smooth-w8a8`, [{ type: "smooth", calibration }, rounding]);
    const smooth = difference(both, float);
    t.true(smooth < 0.5 * plain, `W8A8 ${plain}, smoothed ${smooth}`);
    if (family !== "lasr") return;
    const apart = await compress(float, `${family}-two-stages`, [{ type: "smooth", calibration }], [rounding]);
    t.true(readFileSync(join(apart, "model.safetensors")).equals(readFileSync(join(both, "model.safetensors"))), "one stage or two");
  });
}

test.serial("only norms whose layers are named are smoothed", async (t) => {
  const out = await compress(lasr, "part", [{ type: "smooth", targets: ["*.feed_forward1.*"], calibration }]);
  const [before, after] = [lasr, out].map((path) => loadModel(path).network.parameters()) as [
    ReadonlyMap<string, Tensor>,
    ReadonlyMap<string, Tensor>,
  ];
  const bytes = (tensor: Tensor | undefined): Buffer => Buffer.from((tensor as Tensor).toArray().buffer);
  const changed = [...before].filter(([name, tensor]) => !bytes(tensor).equals(bytes(after.get(name)))).map(([name]) => name);
  t.deepEqual(
    changed.sort(),
    [0, 1].flatMap((i) => [`encoder.layers.${i}.feed_forward1.linear1.weight`, `encoder.layers.${i}.norm_feed_forward1.weight`]),
  );
});

test.serial("what is wrong is named", async (t) => {
  const refuse = (message: RegExp, stages: Settings[][], code = "BAD_RECIPE", model = lasr) =>
    t.throwsAsync(compress(model, `refused-${message.source.replace(/\W/g, "")}`, ...stages), { code, message });
  await refuse(/alpha/, [[{ type: "smooth", alpha: 1.5 }]]);
  await refuse(/alfa/, [[{ type: "smooth", alfa: 0.5 }]]);
  await refuse(/sequential/, [[{ type: "smooth", calibration: { sequential: true } }]]);
  await refuse(/matches no layer/, [[{ type: "smooth", targets: ["*.nothing"] }]]);
  await refuse(/q_proj", .*read "encoder\.layers\.0\.norm_self_att" together/, [[{ type: "smooth", ignore: ["*.k_proj"], calibration }]]);
  await refuse(/none of its layers reads .* norm/, [[{ type: "smooth", targets: ["*.linear2"], calibration }]]);
  await refuse(/has been rounded before/, [
    [
      { type: "round-to-nearest", spec: "int8" },
      { type: "smooth", calibration },
    ],
  ]);
  const afterSums = writeFamilyModel(folder.path, "hubert");
  await refuse(
    /r:1: smooth: this model has no norm whose output goes to linear layers alone/,
    [[{ type: "smooth", calibration }]],
    "UNSUPPORTED_MODEL",
    afterSums,
  );
  const training = JSON.stringify({ stages: [{ modifiers: [{ type: "smooth" }], training: { steps: 1 } }] });
  t.throws(() => parseRecipe(training, "r"), { code: "BAD_RECIPE", message: /smooth changes weights once/ });
  t.false(existsSync(join(folder.path, "refused-alpha")));
});
