import { copyFileSync, readFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import {
  compressModel,
  loadModel,
  parseRecipe,
  Tape,
  tidy,
  Trainer,
  UsmLiteError,
  warmupConstant,
  type TrainingContext,
} from "../lib/index.js";
import { SequenceOffsets, Tensor } from "../lib/operations.js";
import { exportModel } from "../lib/compress/export.js";
import { CompressionState } from "../lib/compress/compression_state.js";
import { parameterSettings } from "../lib/compress/fine_tuning.js";
import { ParakeetTransducer } from "../lib/models/parakeet/parakeet_transducer.js";
import { trainableNetwork, type TrainableNetwork } from "../lib/models/trainable.js";
import { RandomStream } from "../lib/ops/random_stream.js";
import { parseWeightSpec } from "../lib/quant/weight_spec.js";
import { WeightQuantization } from "../lib/train/weight_quantization.js";
import { writeRandomModel } from "./random_model.js";
import { freshModel, OneBatch, trainableConfigs } from "./trainable_models.js";
import { temporaryFolder, writeTinyCorpus } from "./tiny_model.js";

const folder = temporaryFolder("family-training");
test.after.always(folder.clean);

const families = Object.keys(trainableConfigs);
const context = (more: Partial<TrainingContext> = {}): TrainingContext => ({
  training: true,
  random: new RandomStream(1),
  step: 0,
  ...more,
});
const lossOf = (network: TrainableNetwork, more: Partial<TrainingContext> = {}): number =>
  tidy(() => network.loss({ ...new OneBatch(network).batch(), plain: true }, context(more)).loss.toArray()[0] as number);

test("every parameter of every family has the gradient of finite differences", (t) => {
  for (const name of families) {
    const network = freshModel(name);
    // Fresh biases are zero, where relu has its kink.
    for (const [parameter, tensor] of network.parameters()) {
      if (parameter.endsWith("bias")) tidy(() => tensor.write(tensor.toArray().map((_, i) => 0.05 * Math.sin(i + parameter.length))));
      tensor.requiresGrad = true;
    }
    tidy(() => {
      const tape = new Tape();
      const batch = { ...new OneBatch(network).batch(), plain: true };
      tape.backward(tape.record(() => network.loss(batch, context())).loss);
      for (const [parameter, tensor] of network.parameters()) {
        const gradient = tape.gradientOf(tensor)?.toArray();
        if (parameter.includes("feature_extractor") || parameter === "model.encoder.embed_positions.weight") {
          t.is(gradient, undefined, `${name}: ${parameter} is not trained`);
          t.true(network.keptParameters?.().includes(parameter));
          continue;
        }
        if (!gradient) return t.fail(`${name}: ${parameter} got no gradient`);
        // Along its own gradient the loss rises by the gradient's square: all elements in one difference.
        const values = tensor.toArray();
        const square = gradient.reduce((sum, g) => sum + g * g, 0);
        if (Math.sqrt(square) < 3e-3) continue; // the difference would be lost in the rounding of the loss
        // The loss changes by 2e-4, or the values by at most 1e-2: few cross the kink of relu.
        const step = Math.min(1e-4 / square, 1e-2 / Math.sqrt(square));
        const at = (sign: number): number => {
          tensor.write(values.map((value, i) => value + sign * step * (gradient[i] as number)));
          network.weightsChanged?.();
          return lossOf(network);
        };
        const numeric = (at(1) - at(-1)) / (2 * step * square);
        tensor.write(values);
        t.true(Math.abs(numeric - 1) < 0.05, `${name}: ${parameter}: the loss rises ${numeric} times as much as its gradient says`);
      }
      tape.dispose();
    });
  }
});

test("a recipe that wants to train what fine-tuning keeps is told so", (t) => {
  const settings = (family: string, targets: string): unknown => {
    const text = `stages: [{name: a, training: {steps: 1, learningRates: [{targets: ["${targets}"], scale: 2}]}, modifiers: []}]`;
    return parameterSettings(parseRecipe(text, "recipe.yaml").stages[0] as never, freshModel(family));
  };
  for (const [family, targets] of [
    ["wav2vec2", "*.feature_extractor.conv_layers.*"],
    ["hubert", "hubert.feature_extractor.conv_layers.0.conv"],
    ["whisper", "*.encoder.embed_positions"],
  ] as const) {
    t.throws(() => settings(family, targets), {
      instanceOf: UsmLiteError,
      code: "BAD_RECIPE",
      message: /^recipe\.yaml.*" is not trained: fine-tuning keeps ".*" as it is in models of this family$/,
    });
  }
  t.notThrows(() => settings("wav2vec2", "*conv*")); // the positional convolution too
});

test("every family learns an utterance by heart", async (t) => {
  for (const name of families) {
    const network = freshModel(name);
    const before = [...network.buffers()].map(([, tensor]) => [...tensor.toArray()]);
    const losses: number[] = [];
    const trainer = new Trainer(network, new OneBatch(network), {
      folder: join(folder.path, name),
      totalSteps: 9,
      schedule: warmupConstant({ peak: 0.01, warmupSteps: 2 }),
      onStep: ({ loss }) => losses.push(loss),
    });
    await trainer.run();
    trainer.dispose();
    t.true((losses[8] as number) < 0.75 * (losses[0] as number), `${name}: ${losses[0]} to ${losses[8]}`);
    // Batch normalization keeps what the checkpoint says, except in the family that is trained from scratch.
    if (name !== "lasr_ctc")
      t.deepEqual(
        [...network.buffers()].map(([, tensor]) => [...tensor.toArray()]),
        before,
      );
  }
});

test("a batch of one utterance that is too short to learn from ends no run", (t) => {
  for (const name of ["lasr_ctc", "parakeet_ctc"]) {
    const network = freshModel(name);
    const before = [...network.buffers()].map(([, tensor]) => [...tensor.toArray()]);
    for (const frames of [1, 8, 16].filter((count) => network.hiddenFrames(count) < 2)) {
      const batch = {
        ...new OneBatch(network).batch(),
        features: Tensor.zeros([frames, network.featureSize]),
        offsets: new SequenceOffsets([frames]),
        targets: [[1, 2, 3, 2, 1]],
      };
      tidy(() => {
        const { loss, infeasible } = network.loss(batch, context());
        t.is(infeasible, 1, `${name}: ${frames}`);
        t.true(Number.isFinite(loss.toArray()[0]), `${name}: ${frames}`);
      });
    }
    // One frame has no variance: the running statistics stay.
    t.deepEqual(
      [...network.buffers()].map(([, tensor]) => [...tensor.toArray()]),
      before,
    );
  }
});

test("the layers of a transducer's prediction network hear whole numbers where a recipe says so", (t) => {
  for (const name of ["parakeet_rnnt", "parakeet_tdt"]) {
    const network = freshModel(name);
    const lossWith = (layer: string, activations?: "int4"): number => {
      const quantization = new WeightQuantization(network, new Map([[layer, parseWeightSpec("int8")]]), {
        ...(activations && { activations }),
      });
      quantization.beforeStep(0, new RandomStream(1));
      const loss = lossOf(network, {
        transformWeight: (weight, tensor) => quantization.transformWeight(weight, tensor),
        packedWeight: (weight, tensor) => quantization.packedWeight(weight, tensor),
      });
      quantization.dispose();
      return loss;
    };
    for (const layer of ["decoder.lstm.weight_ih_l0", "decoder.lstm.weight_ih_l1", "decoder.decoder_projector.weight"]) {
      t.not(lossWith(layer, "int4"), lossWith(layer), `${name}: ${layer}`);
    }
  }
});

/** Feature extractors that are not Parakeet's, by `model_type`. */
const extractors: Readonly<Record<string, string>> = {
  lasr_ctc: "LasrFeatureExtractor",
  whisper: "WhisperFeatureExtractor",
  cohere_asr: "CohereAsrFeatureExtractor",
  wav2vec2: "Wav2Vec2FeatureExtractor",
  hubert: "Wav2Vec2FeatureExtractor",
  "wav2vec2-conformer": "Wav2Vec2FeatureExtractor",
  "wav2vec2-bert": "SeamlessM4TFeatureExtractor",
};

test("what is packed is what was trained, to the bit", (t) => {
  for (const name of families) {
    const config = trainableConfigs[name] as object;
    const type = extractors[name.replace(/ .*/, "")] ?? "ParakeetFeatureExtractor";
    const settings: Readonly<Record<string, object>> = {
      Wav2Vec2FeatureExtractor: {},
      SeamlessM4TFeatureExtractor: { num_mel_bins: 8 },
      WhisperFeatureExtractor: { feature_size: 16, chunk_length: 1, hop_length: 320 },
    };
    const others = { feature_size: 16, hop_length: 160, n_fft: 512, sampling_rate: 16000, win_length: 400 };
    const preprocessor = { feature_extractor_type: type, ...(settings[type] ?? others) };
    const from = writeRandomModel(join(folder.path, `${name}-float`), config, preprocessor);
    const network = trainableNetwork(loadModel(from));
    for (const spec of ["int2"]) {
      using state = new CompressionState(network.parameters());
      for (const weight of network.linearWeights()) state.update(weight, { spec: parseWeightSpec(spec.replace(/\+.*/, "")) });
      const quantization = new WeightQuantization(network, state.plan);
      const trained = lossOf(network, {
        training: false,
        transformWeight: (weight, tensor) => quantization.transformWeight(weight, tensor),
      });
      const to = join(folder.path, `${name}-${spec.replace(":", "-")}`);
      exportModel(network as never, { from, to, plan: state.plan, state });
      t.is(lossOf(trainableNetwork(loadModel(to, { weights: "float32" })), { training: false }), trained, `${name} ${spec}`);
      t.not(lossOf(network, { training: false }), trained);
    }
  }
});

test("calibration sees what the joint network of a transducer multiplies: every frame with every place in the transcript", (t) => {
  const network = freshModel("parakeet_rnnt");
  if (!(network instanceof ParakeetTransducer)) return t.fail();
  tidy(() => {
    const batch = new OneBatch(network).batch();
    const seen: Float32Array[] = [];
    network.loss(
      batch,
      context({ training: false, observeInput: (name, x) => void (name === "joint.head.weight" && seen.push(x.toArray())) }),
    );
    const { projected, offsets } = network.encode(batch.features, batch.offsets);
    const predicted = network.predict([network.blankId], [undefined]);
    const hidden = network.config.decoder_hidden_size;
    t.deepEqual(
      seen.map(({ length }) => length / hidden),
      offsets.lengths.map((frames, item) => frames * ((batch.targets[item] as number[]).length + 1)),
    );
    const [first] = predicted;
    const wanted = projected
      .rows(0, 1)
      .toArray()
      .map((value, i) => Math.max(0, value + (first?.output[i] as number)));
    wanted.forEach((value, i) => t.true(Math.abs(value - ((seen[0] as Float32Array)[i] as number)) < 1e-6));
  });
});

test("compress fine-tunes a transducer with binary weights", async (t) => {
  const config = { ...trainableConfigs["parakeet_rnnt"], vocab_size: 61, blank_token_id: 60 };
  const from = writeRandomModel(join(folder.path, "rnnt"), config, {
    feature_extractor_type: "ParakeetFeatureExtractor",
    feature_size: 16,
  });
  copyFileSync(
    join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text", "tokenizer_metaspace.json"),
    join(from, "tokenizer.json"),
  );
  const manifest = writeTinyCorpus(join(folder.path, "corpus"), 3);
  const recipe = parseRecipe(
    JSON.stringify({
      stages: [
        {
          modifiers: [
            { type: "quantization", spec: "int1" },
            { type: "quantization", targets: ["decoder.lstm.*", "joint.head"], spec: "int4" },
          ],
          training: { steps: 6, learningRate: 3e-3, warmUpSteps: 0, batchSeconds: 20, speedPerturbation: false, specAugment: false },
        },
      ],
    }),
    "1bit.yaml",
  );
  const out = join(folder.path, "rnnt-packed");
  t.true(await compressModel({ model: from, recipe, manifest, out }));
  const losses = readFileSync(join(`${out}.run`, "metrics.jsonl"), "utf8")
    .trim()
    .split("\n")
    .map((line) => (JSON.parse(line) as { loss: number }).loss);
  t.true((losses[5] as number) < (losses[0] as number), losses.join(" "));
  const { compression, network } = loadModel(out);
  t.is(compression.specs.get("decoder.lstm.weight_hh_l1")?.text, "int4");
  t.is(compression.specs.get("encoder.layers.0.self_attn.q_proj.weight")?.text, "int1");
  t.is(network.kind, "transducer");
  t.throws(() => lossOf(trainableNetwork(loadModel(out))), {
    instanceOf: UsmLiteError,
    code: "UNSUPPORTED_MODEL",
    message: /packed weights cannot be trained/,
  });
});
