import { copyFileSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test, { type ExecutionContext } from "ava";
import { compressModel, loadModel, parseRecipe, readSafetensors, SequenceOffsets, Tape, Tensor, tidy } from "../lib/index.js";
import { trainableNetwork } from "../lib/models/trainable.js";
import { cachedAttention } from "../lib/ops/cached_attention.js";
import { crossEntropy } from "../lib/ops/cross_entropy.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { gatherRows, padSequences } from "../lib/ops/row_copies.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";
import { agreeOnAllInstructionSets } from "./instruction_sets.js";
import { writeRandomModel } from "./random_model.js";
import { referenceFolder } from "./reference.js";
import { temporaryFolder, writeTinyCorpus } from "./tiny_model.js";

const folder = temporaryFolder("sequence-training");
test.after.always(folder.clean);
const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures");

test("cross-entropy has its gradient, leaves out rows without a label, and agrees on every instruction set", (t) => {
  const labels = [3, -1, 0, 20, 7];
  const logits = (): Tensor =>
    Tensor.from(
      randomValues(5 * 21, 1).map((value) => 4 * value),
      [5, 21],
    );
  for (const labelSmoothing of [0, 0.1]) {
    checkGradients(t, ([x]) => crossEntropy(x as Tensor, labels, { labelSmoothing }), [logits()], { samples: 105 });
    agreeOnAllInstructionSets(t, `smoothing ${labelSmoothing}`, () => [crossEntropy(logits(), labels, { labelSmoothing })]);
  }
  const value = (x: Tensor, wanted: number[], options = {}): number => crossEntropy(x, wanted, options).toArray()[0] as number;
  t.true(Math.abs(value(Tensor.zeros([3, 8]), [1, -1, 5], { labelSmoothing: 0.3 }) - Math.log(8)) < 1e-6);
  t.is(value(logits(), [-1, -1, -1, -1, -1]), 0);
  t.true(Math.abs(value(Tensor.from([1e30, 0], [1, 2]), [0])) < 1e-6, "huge logits");
  t.true(Number.isNaN(value(Tensor.from([NaN, 0], [1, 2]), [1])));
  const refuse = (wanted: number[], options: object, message: RegExp): void =>
    void t.throws(() => crossEntropy(logits(), wanted, options), { code: "INVALID_ARGUMENT", message });
  refuse([21, 0, 0, 0, 0], {}, /label 21 does not exist: there are 21 columns/);
  refuse([-2, 0, 0, 0, 0], {}, /label -2 is no column/);
  refuse([0, 0], {}, /labels/);
  refuse(labels, { labelSmoothing: 1 }, /at least 0 and below 1/);
});

test("attention over other keys and before later tokens has its gradient", (t) => {
  for (const { queries, keys, causal } of [
    { queries: [3, 0, 5], keys: [3, 2, 5], causal: true },
    { queries: [2, 4], keys: [70, 1], causal: false },
    { queries: [1, 3], keys: [6, 3], causal: true },
  ]) {
    const [heads, headDim] = [2, 9];
    const [offsets, keyOffsets] = [new SequenceOffsets(queries), new SequenceOffsets(keys)];
    const inputs = [offsets, keyOffsets, keyOffsets].map(({ frames }, seed) => randomTensor([frames, heads * headDim], seed + 1));
    const attend = ([query, k, v]: Tensor[]): Tensor =>
      cachedAttention(query as Tensor, offsets, { keys: k as Tensor, values: v as Tensor, offsets: keyOffsets }, { heads, causal });
    checkGradients(t, attend, inputs, { samples: 30 });
    agreeOnAllInstructionSets(t, `gradients of ${queries.join(", ")} over ${keys.join(", ")}`, () => {
      const tape = new Tape();
      for (const input of inputs) input.requiresGrad = true;
      const output = tape.record(() => attend(inputs));
      tape.backward(output, randomTensor(output.shape, 9));
      return inputs.map((input) => tape.gradientOf(input) as Tensor);
    });
  }
});

test("padding and looking up have their gradients", (t) => {
  const offsets = new SequenceOffsets([3, 0, 2]);
  checkGradients(t, ([x]) => padSequences(x as Tensor, offsets, [1, 2]).output, [randomTensor([5, 4], 1)]);
  checkGradients(t, ([x]) => gatherRows(x as Tensor, [4, 0, 4, 2]), [randomTensor([5, 4], 1)]);
});

interface Fixture {
  readonly tokens: number[][];
  readonly loss: number;
  readonly gradients: Readonly<Record<string, readonly [norm: number, wave: number]>>;
}

/**
 * What transformers 5.18 gives (`python bench/peers/sequence_gradients.py FOLDER TOKENS ..`, the tokens being those of the fixture): the
 * loss, and of every gradient its norm and the sum of its elements times cos(index).
 */
function agrees(t: ExecutionContext, model: string, name: string, windows: boolean): void {
  const { tokens, loss, gradients } = JSON.parse(readFileSync(join(fixtures, "gradients", `${name}.json`), "utf8")) as Fixture;
  const network = trainableNetwork(loadModel(model));
  using expected = readSafetensors(join(model, "expected.safetensors"));
  tidy(() => {
    const values = expected.values("input_features") as Float32Array;
    const shape = expected.shape("input_features") as [number, number, number];
    const [size, frames, bins] = windows ? [shape[0], shape[2], shape[1]] : shape;
    const mask = windows ? undefined : expected.values("attention_mask");
    const lengths = Array.from({ length: size }, (_, item) =>
      mask ? [...mask.subarray(item * frames, (item + 1) * frames)].filter((one) => one > 0).length : frames,
    );
    const rows = lengths.flatMap((length, item) =>
      Array.from({ length: length * bins }, (_, i) => {
        const [frame, bin] = [Math.floor(i / bins), i % bins];
        return values[item * frames * bins + (windows ? bin * frames + frame : i)] as number;
      }),
    );
    const batch = {
      features: Tensor.from(rows, [rows.length / bins, bins]),
      offsets: new SequenceOffsets(lengths),
      targets: tokens,
      plain: true,
      audioSeconds: 1,
    };
    for (const parameter of network.parameters().values()) parameter.requiresGrad = true;
    using tape = new Tape();
    const result = tape.record(() => network.loss(batch, { training: true, random: new RandomStream(1), step: 0 }));
    tape.backward(result.loss);
    const ours = result.loss.toArray()[0] as number;
    t.true(Math.abs(ours - loss) < 1e-3, `loss ${ours}, of transformers ${loss}`);
    const largest = Math.max(...Object.values(gradients).map(([norm]) => norm));
    let [worst, compared] = [0, 0];
    for (const [parameter, tensor] of network.parameters()) {
      const gradient = tape.gradientOf(tensor)?.toArray();
      if (parameter === "model.encoder.embed_positions.weight") {
        t.is(gradient, undefined, "sinusoids are not trained");
        continue;
      }
      const [norm, wave] = gradients[parameter] ?? [NaN, NaN];
      if (!gradient) return t.fail(`${parameter} got no gradient`);
      if (norm < 1e-5 * largest) continue; // zero but for rounding: biases of keys
      const own = Math.sqrt(gradient.reduce((sum, g) => sum + g * g, 0));
      const ownWave = gradient.reduce((sum, g, i) => sum + g * Math.cos(i), 0);
      // Small gradients are sums of large terms, whose rounding depends on the instruction set.
      const error = Math.max(Math.abs(own - norm), Math.abs(ownWave - wave)) / (norm + 1e-4 * largest);
      worst = Math.max(worst, error);
      compared++;
      t.true(error < 1e-3, `${parameter}: norm ${own}, of transformers ${norm}; wave ${ownWave}, of transformers ${wave}`);
    }
    t.log(`${name}: loss ${ours}, of transformers ${loss}; ${compared} gradients within ${worst}`);
    t.true(compared > 60);
  });
}

const whisper = referenceFolder("whisper");
(whisper ? test : test.skip)("a step of Whisper has the loss and the gradients of transformers", (t) =>
  agrees(t, whisper as string, "whisper", true),
);
test("a step of cohere_asr has the loss and the gradients of transformers", (t) =>
  agrees(t, join(fixtures, "models", "cohere_asr"), "cohere_asr", false));

const config = {
  model_type: "whisper",
  vocab_size: 420,
  d_model: 16,
  encoder_layers: 1,
  decoder_layers: 1,
  encoder_attention_heads: 2,
  decoder_attention_heads: 2,
  encoder_ffn_dim: 32,
  decoder_ffn_dim: 32,
  max_source_positions: 100,
  max_target_positions: 40, // its ids are those of `generation` alone
};
const generation = {
  decoder_start_token_id: 310,
  eos_token_id: 300,
  no_timestamps_token_id: 309,
  lang_to_id: { "<|en|>": 301, "<|de|>": 302 },
  task_to_id: { transcribe: 306 },
};

test("compress fine-tunes Whisper, leaves out what no window holds", async (t) => {
  const model = writeRandomModel(
    join(folder.path, "whisper"),
    config,
    { feature_extractor_type: "WhisperFeatureExtractor", feature_size: 80, chunk_length: 2 },
    { generation },
  );
  copyFileSync(join(fixtures, "text", "tokenizer_byte_level.json"), join(model, "tokenizer.json"));
  const manifest = writeTinyCorpus(join(folder.path, "corpus"), 3);
  const recipe = parseRecipe(
    JSON.stringify({
      stages: [
        {
          modifiers: [
            { type: "sparsity", pattern: "2:4" },
            { type: "quantization", spec: "int4" },
            { type: "quantization", targets: ["model.decoder.embed_tokens"], spec: "int8" },
            { type: "distillation", hidden: 0.1 },
          ],
          training: {
            steps: 6,
            learningRate: 1e-2,
            warmUpSteps: 0,
            batchSeconds: 4,
            speedPerturbation: false,
            specAugment: false,
            labelSmoothing: 0.1,
          },
        },
      ],
    }),
    "whisper.yaml",
  );
  const said: string[] = [];
  const options = { model, recipe, manifest, onStatus: (sentence: string) => said.push(sentence) };
  const out = join(folder.path, "packed");
  await t.throwsAsync(compressModel({ ...options, out }), {
    code: "INVALID_ARGUMENT",
    message: /needs the language of the speech.*en, de/,
  });
  await t.throwsAsync(compressModel({ ...options, out, language: "fr" }), { code: "INVALID_ARGUMENT", message: /no language "fr"/ });
  t.true(await compressModel({ ...options, out: `${out}-en`, language: "en" }));
  t.true(
    said.some((sentence) => /leaving out 1 utterances/.test(sentence)),
    said.join("; "),
  );
  const losses = readFileSync(join(`${out}-en.run`, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { loss: number }).loss);
  t.true((losses[5] as number) < (losses[0] as number), losses.join(" "));
  t.true(losses.every(Number.isFinite), losses.join(" "));
  const { compression } = loadModel(`${out}-en`);
  t.is(compression.specs.get("model.decoder.layers.0.encoder_attn.k_proj.weight")?.text, "int4+2:4");
  t.is(compression.specs.get("model.decoder.embed_tokens.weight")?.text, "int8");
});
