import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import test from "ava";
import {
  BlockModel,
  compressModel,
  HiddenFrames,
  loadModel,
  parseRecipe,
  readSafetensors,
  Recognizer,
  SequenceOffsets,
  Tape,
  Tensor,
  tidy,
  type BlockStack,
} from "../lib/index.js";
import { BlockwiseTraining } from "../lib/compress/blockwise_training.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { languageOf, writeFamilyModel, writeShortCorpus } from "./family_models.js";
import { randomValues } from "./gradient.js";
import { temporaryFolder, tones, writeTinyCorpus, writeTinyModel } from "./tiny_model.js";
import { freshModel, OneBatch, trainableConfigs } from "./trainable_models.js";

const folder = temporaryFolder("blockwise");
test.after.always(folder.clean);

const context = { training: false, random: new RandomStream(0), step: 0 };
const asItIs = (_: string, weight: Tensor): Tensor => weight;

for (const family of Object.keys(trainableConfigs)) {
  test(`${family}: one block after another gives what all together give`, (t) => {
    const network = freshModel(family);
    const stacks = network.blockStacks?.() as readonly BlockStack[];
    const parameters = [...network.parameters().keys()];
    tidy(() => {
      const batch = new OneBatch(network).batch();
      const { hidden = [] } =
        network.outputs?.(batch, { ...context, keepHidden: true }) ?? network.loss(batch, { ...context, keepHidden: true }).outputs ?? {};
      t.is(hidden.length, stacks.flatMap(({ prefixes }) => prefixes).length);
      const wanted = hidden.values();
      for (const blocks of stacks) {
        const { hidden: first, ...given } = blocks.before(batch, context);
        blocks.prefixes.reduce((x, prefix, index) => {
          const output = blocks.forward(index, { ...batch, ...given, features: x }, context);
          t.deepEqual(output.toArray(), wanted.next().value?.toArray());
          t.true(parameters.some((name) => name.startsWith(prefix)));
          return output;
        }, first);
      }
    });
  });
}

test("a block alone: nothing to learn from itself, gradients for its own parameters, statistics stay", (t) => {
  const [student, teacher] = [freshModel("lasr_ctc", 1), freshModel("lasr_ctc", 1)];
  const [blocks, wanted] = [student, teacher].map((network) => network.blockStacks?.()[0]) as [BlockStack, BlockStack];
  const model = new BlockModel(student, blocks, 1);
  t.true([...model.parameters().keys(), ...model.linearWeights()].every((name) => name.startsWith("encoder.layers.1.")));
  using frames = new HiddenFrames(blocks, wanted, new OneBatch(student), asItIs, 1);
  frames.want(0);
  frames.pass(0, asItIs);
  frames.want(1);
  const lossOf = (transformWeight: (name: string, weight: Tensor) => Tensor): number =>
    tidy(() => model.loss(frames.batch(0, 0), { ...context, transformWeight }).loss.toArray()[0] as number);
  t.is(lossOf(asItIs), 0);
  const half = (_: string, weight: Tensor): Tensor =>
    Tensor.from(
      weight.toArray().map((x) => x / 2),
      weight.shape,
    );
  t.true(lossOf(half) > 1e-3);

  const statistics = (): number[] => [...student.buffers().values()].flatMap((buffer) => [...buffer.toArray()]);
  const before = statistics();
  for (const parameter of student.parameters().values()) parameter.requiresGrad = true;
  (student.parameters().get("encoder.layers.1.norm_conv.weight") as Tensor).write(new Float32Array(32).fill(0.9));
  tidy(() => {
    using tape = new Tape();
    tape.backward(tape.record(() => model.loss(frames.batch(0, 0), { ...context, training: true }).loss));
    const reached = [...student.parameters()].filter(([, tensor]) => tape.gradientOf(tensor)).map(([name]) => name);
    t.deepEqual(reached.sort(), [...model.parameters().keys()].sort());
  });
  t.deepEqual(statistics(), before);
});

const float = writeTinyModel(join(folder.path, "float"), { languageModel: false });
const manifest = writeTinyCorpus(join(folder.path, "corpus"), 4);
const training = {
  steps: 30,
  warmUpSteps: 1,
  batchSeconds: 5,
  learningRate: 3e-3,
  specAugment: false,
  speedPerturbation: false,
  blockwise: {},
  features: join(folder.path, "features"),
};
const short = writeShortCorpus(join(folder.path, "short"), 2);
const solve = { name: "solve", modifiers: [{ type: "sparsegpt", spec: "1:4", calibration: { utterances: 4 } }] };

const compress = (name: string, stages: readonly object[], model = float): Promise<boolean> =>
  compressModel({ model, recipe: parseRecipe(JSON.stringify({ stages }), "r.yaml"), manifest, out: join(folder.path, name) });
const weightsOf = (name: string): Buffer => readFileSync(join(folder.path, name, "model.safetensors"));

/** Relative mean square of what the encoder puts out differently. */
function errorOf(name: string): number {
  const offsets = new SequenceOffsets([90, 41]);
  const features = randomValues(offsets.frames * 128, 3).map((value) => 4 * value - 4);
  const [found, wanted] = [join(folder.path, name), float].map((path) => {
    const network = loadModel(path, { weights: "float32" }).network as CtcNetwork;
    return tidy(() => network.forward(Tensor.from(features, [offsets.frames, 128]), offsets).hidden.toArray());
  }) as [Float32Array, Float32Array];
  const power = (values: Float32Array): number => values.reduce((sum, value) => sum + value * value, 0);
  return power(found.map((value, i) => value - (wanted[i] as number))) / power(wanted);
}

test.serial("blocks come closer to those of the float model under the masks that they have", async (t) => {
  await compress("solved", [solve]);
  await compress("rebuilt", [solve, { name: "rebuild", modifiers: [], training }]);
  const [before, after] = [errorOf("solved"), errorOf("rebuilt")];
  t.true(after < 0.8 * before, `${before}, then ${after}`);
  using file = readSafetensors(join(folder.path, "solved", "model.safetensors"));
  using other = readSafetensors(join(folder.path, "rebuilt", "model.safetensors"));
  const mask = "encoder.layers.1.feed_forward1.linear1.weight_mask";
  t.true(file.has(mask), file.names().join());
  t.deepEqual(other.bytes(mask), file.bytes(mask));
  t.deepEqual(other.values("ctc_head.weight"), file.values("ctc_head.weight"));
  t.true(readFileSync(join(folder.path, "rebuilt.run", "report.html"), "utf8").includes("rebuild/block-1"));
});

test.serial("masks and scales of the stage act in every block, and a run that is stopped goes on to the same bytes", async (t) => {
  const modifiers = [
    { type: "sparsity", pattern: "2:4", schedule: "few-shot", shots: 2, interval: 2, gradual: true, gradient: "sr-ste" },
    { type: "quantization", spec: "int4", learned: true, rounding: "stochastic" },
  ];
  const stages = [
    { name: "rebuild", modifiers, training: { ...training, steps: 6, emaDecay: 0.5 } },
    { name: "round", modifiers: [{ type: "round-to-nearest", spec: "int8", targets: ["encoder.subsampler.dense_1"] }] },
  ];
  t.true(await compress("whole", stages));
  const first = compress("stopped", stages);
  const stop = setInterval(() => {
    if (existsSync(join(folder.path, "stopped.run", "rebuild", "block-1", "metrics.jsonl"))) process.emit("SIGTERM");
  }, 1);
  t.false(await first);
  clearInterval(stop);
  t.true(await compress("stopped", stages));
  t.true(weightsOf("stopped").equals(weightsOf("whole")));
  t.true(errorOf("whole") < 0.5);
});

test.serial("blocks of all families are rebuilt, those of decoders too, and what is packed transcribes", async (t) => {
  const prune = { modifiers: [{ type: "round-to-nearest", spec: "int4+2:4" }] };
  for (const family of ["wav2vec2", "hubert", "wav2vec2-conformer", "wav2vec2-bert", "whisper", "cohere_asr"] as const) {
    const model = writeFamilyModel(folder.path, family);
    const said: string[] = [];
    const out = join(folder.path, `${family}-rebuilt`);
    const stages = [prune, { name: "rebuild", training: { ...training, steps: 16, features: join(folder.path, family, "features") } }];
    const recipe = parseRecipe(JSON.stringify({ stages }), "r.yaml");
    t.true(
      await compressModel({ model, recipe, manifest: short, out, ...languageOf(family), onStatus: (sentence) => said.push(sentence) }),
    );
    const errors = said.flatMap((sentence) => {
      const [, first, last] = /^block \d+: relative squared error (\S+) at first, (\S+) at last/.exec(sentence) ?? [];
      return first && last ? [[Number(first), Number(last)] as const] : [];
    });
    t.is(errors.length, family === "whisper" || family === "cohere_asr" ? 2 : 1, family);
    for (const [first, last] of errors) t.true(last < 0.9 * first, `${family}: ${first}, then ${last}`);
    const packed = loadModel(out);
    const { specs } = packed.compression;
    t.deepEqual([...new Set([...specs.values()].map(({ text }) => text))], ["int4+2:4"], family);
    t.is(new Recognizer(packed, languageOf(family)).transcribe(tones(1, 1)).duration, 1, family);
  }
});

test.serial("a decoder of which nothing is compressed stays as it is", async (t) => {
  const model = join(folder.path, "whisper");
  const out = join(folder.path, "whisper-encoder");
  const modifiers = [{ type: "quantization", spec: "int4", targets: ["model.encoder.layers.*.fc1"] }];
  const recipe = parseRecipe(
    JSON.stringify({ stages: [{ modifiers, training: { ...training, steps: 2, features: join(model, "features") } }] }),
    "r.yaml",
  );
  t.true(await compressModel({ model, recipe, manifest: short, out, language: "en" }));
  using before = readSafetensors(join(model, "model.safetensors"));
  using after = readSafetensors(join(out, "model.safetensors"));
  const unchanged = (name: string): boolean => Buffer.from(before.bytes(name)).equals(Buffer.from(after.bytes(name)));
  t.true(
    before
      .names()
      .filter((name) => name.startsWith("model.decoder."))
      .every(unchanged),
  );
  t.false(unchanged("model.encoder.layers.0.fc2.weight"));
});

test.serial("what cannot be trained block by block is named with its line", async (t) => {
  const refuse = (modifiers: readonly object[], message: RegExp, code = "BAD_RECIPE") =>
    t.throwsAsync(compress("refused", [{ modifiers, training }]), { code, message });
  await refuse(
    [{ type: "quantization", spec: "int4" }, { type: "distillation" }],
    /r\.yaml:1: distillation looks at outputs of the whole model/,
  );
  await refuse(
    [{ type: "quantization", spec: "int4", targets: ["ctc_head"] }],
    /r\.yaml:1: "ctc_head" is in no block of encoder or decoder/,
  );
  t.throws(() => parseRecipe(JSON.stringify({ stages: [{ training: { ...training, blockwise: { utterances: 0 } } }] }), "r.yaml"), {
    code: "BAD_RECIPE",
    message: /r\.yaml:1: .*utterances/,
  });
  t.false(existsSync(join(folder.path, "refused.run")));
  const network = freshModel("hubert");
  const speech = { network: new BlockModel(network, network.blockStacks?.()[0] as BlockStack, 0), model: { folder: "one-block" } };
  t.throws(() => new BlockwiseTraining({} as never, {} as never, { speech } as never), {
    code: "UNSUPPORTED_MODEL",
    message: /one-block has none/,
  });
});
