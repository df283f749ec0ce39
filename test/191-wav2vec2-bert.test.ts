import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { kaldiFeaturesFrom } from "../lib/audio/kaldi_features.js";
import {
  AdapterBase,
  availableInstructionSets,
  loadModel,
  Recognizer,
  SequenceOffsets,
  setInstructionSet,
  Tensor,
  tidy,
} from "../lib/index.js";
import { describeModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { ClippedRelativeAttention } from "../lib/nn/clipped_relative_attention.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { WeightRegistry } from "../lib/nn/weight_registry.js";
import { WeightScope } from "../lib/nn/weight_source.js";
import { linear } from "../lib/ops/linear.js";
import { randomAdapter } from "./adapters.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";
import { readExpected, relativeError, throughFile } from "./reference.js";
import { asDecoded, form, post, startServer, wav } from "./serving.js";
import { tones } from "./tiny_model.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "models");
/** Positions clipped, an adapter; and relative positions without one. */
const folders = ["adapter", "relative"].map((kind) => join(fixtures, `wav2vec2_bert_${kind}`));
const preprocessor = { feature_extractor_type: "SeamlessM4TFeatureExtractor" };

/** The samples that transformers was given. */
function clips(): Float32Array[] {
  using expected = readExpected(folders[0] as string);
  const [, most = 0] = expected.shape("audio");
  const audio = expected.values("audio") as Float32Array;
  return [...expected.values("samples")].map((samples, item) => audio.slice(item * most, item * most + Number(samples)));
}

test.serial("features agree with transformers on every instruction set", (t) => {
  const frontEnd = kaldiFeaturesFrom(preprocessor, "p.json");
  using expected = readExpected(folders[0] as string);
  const wanted = expected.values("input_features") as Float32Array;
  const [, frames = 0, width = 0] = expected.shape("input_features");
  t.is(width, frontEnd.config.featureSize);
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    clips().forEach((clip, item) => {
      const features = frontEnd.features(clip);
      t.deepEqual(features.shape, [[18, 12][item] as number, 160]);
      const values = features.toArray();
      const theirs = wanted.subarray(item * frames * width, item * frames * width + values.length);
      const error = relativeError(values, theirs, features.dim(0), [features.dim(0)]);
      t.log(`clip ${item} on ${set}: relative error ${error}`);
      t.true(error < 1e-4, `clip ${item} on ${set}: ${error}`);
    });
  }
});

test("frames are pairs, of silence and of audio without one too", (t) => {
  const frontEnd = kaldiFeaturesFrom(preprocessor, "p.json");
  for (const [samples, frames] of [
    [0, 0],
    [399, 0],
    [400, 0],
    [559, 0],
    [560, 1],
    [879, 1],
    [880, 2],
  ] as const) {
    t.is(frontEnd.frames(samples), frames, `${samples} samples`);
    t.deepEqual(frontEnd.features(randomValues(samples, 1)).shape, [frames, 160]);
  }
  // All frames of a constant are alike: nothing is left of them.
  for (const level of [0, 0.25]) {
    const constant = frontEnd.features(new Float32Array(3000).fill(level)).toArray();
    t.true(constant.every((value) => Math.abs(value) < 1e-3));
  }
  // 16-bit samples as whole numbers: loudness alone changes nothing once bins are normalized.
  const quiet = randomValues(4000, 2).map((value) => 0.5 * value);
  const [first, second] = [quiet, quiet.map((value) => 2 * value)].map((samples) => frontEnd.features(samples).toArray()) as [
    Float32Array,
    Float32Array,
  ];
  t.true(first.every((value, i) => Math.abs(value - (second[i] as number)) < 1e-4));
});

for (const folder of folders) {
  test.serial(`${folder.replace(/.*_/, "")}: forward agrees with transformers on every instruction set`, (t) => {
    const { network } = loadModel(folder);
    using expected = readExpected(folder);
    const lengths = [...expected.values("lengths")].map(Number);
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      throughFile(paddedForward(network, expected), (ours) => {
        for (const name of ["encoder_last_hidden_state", "logits"]) {
          t.deepEqual(ours.shape(name), expected.shape(name));
          const [, frames = 0] = ours.shape(name);
          const error = relativeError(ours.values(name) as Float32Array, expected.values(name) as Float32Array, frames, lengths);
          t.log(`${name} on ${set}: relative error ${error}`);
          t.true(error < 1e-3, `${name} on ${set}: relative error ${error}`);
        }
        t.deepEqual(ours.values("tokens"), expected.values("tokens"));
      });
    }
  });

  test.serial(`${folder.replace(/.*_/, "")}: a sequence gives the same bits alone and in any batch`, (t) => {
    const network = loadModel(folder).network as CtcNetwork;
    const lengths = [7, 40, 0, 1, 23, 2];
    const values = lengths.map((length, index) => randomValues(160 * length, index));
    const logits = (items: readonly number[]): Float32Array[] =>
      tidy(() => {
        const offsets = new SequenceOffsets(items.map((item) => lengths[item] as number));
        const packed = Tensor.from(Float32Array.from(items.flatMap((item) => [...(values[item] as Float32Array)])), [offsets.frames, 160]);
        const result = network.forward(packed, offsets);
        t.deepEqual(
          result.offsets.lengths,
          offsets.lengths.map((length) => network.hiddenFrames(length)),
        );
        return items.map((_, item) => {
          const begin = result.offsets.begin(item);
          return result.logits.rows(begin, begin + (result.offsets.lengths[item] as number)).toArray();
        });
      });
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      const together = logits([0, 1, 2, 3, 4, 5]);
      lengths.forEach((_, item) => t.deepEqual(logits([item])[0], together[item]));
      t.deepEqual(logits([4, 0])[0], together[4]);
    }
  });
}

test("attention knows distances up to its reach, and has the gradient of finite differences", (t) => {
  const [hidden, heads, left, right] = [6, 2, 2, 1];
  const width = hidden / heads;
  const weights = new WeightRegistry(new FreshWeights(3));
  const attention = new ClippedRelativeAttention(new WeightScope(weights), { hidden, heads, reach: [left, right] });
  const parameter = (name: string): Tensor => weights.parameters.get(name) as Tensor;
  const offsets = new SequenceOffsets([5, 0, 1, 4]);
  const x = randomTensor([offsets.frames, hidden], 1);
  const nothing = Tensor.zeros([offsets.frames, hidden]);

  // The formula, frame by frame; the output layer is the identity.
  parameter("linear_out.weight").write(Float32Array.from({ length: hidden ** 2 }, (_, i) => (i % (hidden + 1) === 0 ? 1 : 0)));
  const [query, key, value] = ["linear_q", "linear_k", "linear_v"].map((name) =>
    linear(x, parameter(`${name}.weight`), { bias: parameter(`${name}.bias`) }).toArray(),
  ) as [Float32Array, Float32Array, Float32Array];
  const distances = parameter("distance_embedding.weight").toArray();
  const headOf = (values: Float32Array, frame: number, head: number): Float32Array =>
    values.subarray(frame * hidden + head * width, frame * hidden + (head + 1) * width);
  const wanted = new Float32Array(offsets.frames * hidden);
  const attend = (begin: number, length: number, i: number, head: number): void => {
    const scores = Array.from({ length }, (_, j) => {
      const row = left + Math.min(Math.max(j - i, -left), right);
      const seen = headOf(key, begin + j, head).map((k, c) => k + (distances[row * width + c] as number));
      return headOf(query, begin + i, head).reduce((sum, q, c) => sum + q * (seen[c] as number), 0) / Math.sqrt(width);
    });
    const exponents = scores.map(Math.exp);
    const total = exponents.reduce((a, b) => a + b);
    const result = headOf(wanted, begin + i, head);
    exponents.forEach((e, j) => headOf(value, begin + j, head).forEach((v, c) => (result[c] = (result[c] as number) + (e / total) * v)));
  };
  offsets.lengths.forEach((length, sequence) => {
    for (let i = 0; i < length; i++) for (let head = 0; head < heads; head++) attend(offsets.begin(sequence), length, i, head);
  });
  const found = attention.forward(x, nothing, offsets, {}).toArray();
  found.forEach((one, i) => t.true(Math.abs(one - (wanted[i] as number)) < 1e-5));

  const inputs = [x, parameter("distance_embedding.weight")];
  checkGradients(t, ([frames]) => attention.forward(frames as Tensor, nothing, offsets, {}), inputs, { samples: 30 });
});

test("speech becomes text: greedily, with a beam and hotwords, in chunks, and from the server", async (t) => {
  for (const folder of folders) {
    const model = loadModel(folder);
    const recognizer = new Recognizer(model);
    const speech = recognizer.transcribe(tones(1.5, 3));
    t.true(speech.text.length > 0);
    t.is(recognizer.transcribe(new Float32Array(500)).text, ""); // no pair of frames
    t.deepEqual(recognizer.transcribeBatch([tones(0.7, 1), tones(1.5, 3)])[1], speech);
    const beam = new Recognizer(model, { decoder: "beam", beamWidth: 4 });
    t.true(beam.transcribe(tones(1.5, 3)).text.length > 0);

    // More than a chunk of 30 s: blocks of any size give what the whole gives.
    const long = tones(33, 5);
    const whole = recognizer.transcribe(long);
    const blocks = Array.from({ length: 10 }, (_, block) => long.subarray(block * 60_000, (block + 1) * 60_000));
    t.deepEqual(await recognizer.transcribeStream(blocks), whole);
    t.is(whole.duration, 33);
    const server = await startServer(folder);
    try {
      const answer = await post(server, form(wav(tones(1.5, 3))));
      t.is(((await answer.json()) as { text: string }).text, recognizer.transcribe(asDecoded(tones(1.5, 3))).text);
      const hinted = await post(server, form(wav(tones(1.5, 3)), [["model", "tiny"], ["keywords[]", "a phrase"]]));
      t.is(hinted.status, 200);
      t.true(((await hinted.json()) as { text: string }).text.length > 0);
    } finally {
      await server.close();
    }
  }
});

test("recordings of different speakers share a pass, before and behind what shortens them", (t) => {
  for (const folder of folders) {
    const model = loadModel(folder);
    const base = new AdapterBase(model);
    const adapters = [randomAdapter(base, 3, 1), undefined, randomAdapter(base, 2, 2)];
    const recognizer = new Recognizer(model, { decoder: "greedy" });
    const chunks = adapters.map((adapter, index) => ({ ...recognizer.featureChunk(tones(0.4 + 0.21 * index, index)), adapter }));
    const together = recognizer.forward(chunks);
    chunks.forEach((chunk, index) => t.deepEqual(together[index], recognizer.forward([chunk])[0], `recording ${index}, to the bit`));
    t.notDeepEqual(together[2], recognizer.forward([{ ...(chunks[2] as (typeof chunks)[0]), adapter: undefined }])[0]);
    for (const adapter of adapters) adapter?.dispose();
  }
});

test("what this family cannot do is refused by key", (t) => {
  const config = { model_type: "wav2vec2-bert", vocab_size: 9 };
  const refuse = (change: object, message: RegExp): void => {
    t.throws(() => describeModel({ ...config, ...change } as never, "config.json"), { code: "BAD_CONFIG", message });
  };
  t.notThrows(() => describeModel({ ...config, add_adapter: true }, "config.json"));
  refuse({ vocab_size: null }, /"vocab_size"/);
  refuse({ architectures: ["Wav2Vec2BertModel"] }, /"architectures" is Wav2Vec2BertModel; only models with a CTC head/);
  refuse({ pad_token_id: 9 }, /"pad_token_id" must be below vocab_size, 9/);
  refuse({ num_attention_heads: 3 }, /"hidden_size" must be divisible/);
  refuse({ hidden_act: "gelu_new" }, /"hidden_act"/);
  refuse({ conv_depthwise_kernel_size: 30 }, /"conv_depthwise_kernel_size" must be odd/);
  refuse({ position_embeddings_type: "absolute" }, /"position_embeddings_type"/);
  refuse({ position_embeddings_type: "rotary", hidden_size: 48 }, /"num_attention_heads" must give heads of an even size/);
  refuse({ left_max_position_embeddings: -1 }, /"left_max_position_embeddings"/);
  refuse({ use_intermediate_ffn_before_adapter: true }, /"use_intermediate_ffn_before_adapter" is true; it belongs/);
  refuse({ add_adapter: true, adapter_kernel_size: 5 }, /"adapter_kernel_size" is 5; with adapter_stride 2 it must be 3/);
  refuse({ add_adapter: true, adapter_act: "tanh" }, /"adapter_act"/);
  refuse({ add_adapter: true, output_hidden_size: 1001 }, /"output_hidden_size" must be divisible/);
  const { frontEnd } = describeModel(config, "config.json");
  const reject = (change: object, message: RegExp): void => {
    t.throws(() => frontEnd({ ...preprocessor, ...change } as never, "p.json"), { code: "BAD_CONFIG", message });
  };
  reject({ num_mel_bins: 64 }, /num_mel_bins 64 makes frames of 128 values, but config\.json has feature_projection_input_dim 160/);
  reject({ stride: 1 }, /stride is 1/);
  reject({ return_attention_mask: false }, /return_attention_mask is false/);
  reject({ sampling_rate: 20 }, /p\.json: .*mel filters/);
  reject({ feature_extractor_type: "Wav2Vec2FeatureExtractor" }, /feature_extractor_type/);
  reject({ dither: 1 }, /"dither" is not known/);
});
