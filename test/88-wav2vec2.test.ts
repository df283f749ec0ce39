import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { rawSamplesFrom } from "../lib/audio/raw_samples.js";
import { availableInstructionSets, setInstructionSet, SequenceOffsets, Tensor, tidy } from "../lib/operations.js";
import { describeModel, loadModel, type SpeechModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import type { CtcNetwork } from "../lib/models/speech_network.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { randomValues } from "./gradient.js";
import { maskLengths, readExpected, referenceClips, referenceFolder, relativeError, throughFile } from "./reference.js";
import { writeRandomModel } from "./random_model.js";
import { editWeights, temporaryFolder } from "./tiny_model.js";

const folders = Object.fromEntries(["hubert_ctc", "wav2vec2_stable_ctc"].map((family) => [family, referenceFolder(family)]));

for (const [family, folder] of Object.entries(folders)) {
  const withReference = folder ? test : test.skip;

  withReference(`${family}: features agree with transformers`, async (t) => {
    const { frontEnd } = loadModel(folder as string);
    using expected = readExpected(folder as string);
    const wanted = expected.values("input_values") as Float32Array;
    const [, samples = 0] = expected.shape("input_values");
    (await referenceClips()).forEach((clip, item) => {
      // Without an attention mask, transformers normalizes the batch with its padding.
      const padded = expected.has("attention_mask") ? clip : new Float32Array(samples);
      if (padded !== clip) padded.set(clip);
      const features = frontEnd.features(padded).toArray();
      const error = relativeError(features, wanted.subarray(item * samples, item * samples + features.length), features.length, [
        features.length,
      ]);
      t.log(`relative error ${error}`);
      t.true(error < 1e-3, `clip ${item}: ${error}`);
    });
  });

  (folder ? test.serial : test.skip)(`${family}: forward agrees with transformers on every instruction set`, (t) => {
    const { network, frontEnd } = loadModel(folder as string) as SpeechModel & { network: CtcNetwork };
    using expected = readExpected(folder as string);
    const [batch = 0, samples = 0] = expected.shape("input_values");
    const masked = frontEnd.config.attentionMask ? maskLengths(expected, "attention_mask") : new Array<number>(batch).fill(samples);
    const lengths = masked.map((length) => network.hiddenFrames(length));
    for (const set of availableInstructionSets().filter((name) => name !== "reference")) {
      setInstructionSet(set);
      throughFile(paddedForward(network, expected, frontEnd.config), (ours) => {
        for (const name of ["encoder_last_hidden_state", "logits"]) {
          t.deepEqual(ours.shape(name), expected.shape(name));
          const [, frames = 0] = ours.shape(name);
          const error = relativeError(ours.values(name) as Float32Array, expected.values(name) as Float32Array, frames, lengths);
          t.log(`${name} on ${set}: relative error ${error}`);
          t.true(error < 1e-3, `${name} on ${set}: relative error ${error}`);
        }
        const [, frames = 0] = ours.shape("tokens");
        lengths.forEach((length, item) => {
          const row = [item * frames, item * frames + length] as const;
          t.deepEqual(ours.values("tokens").subarray(...row), expected.values("tokens").subarray(...row));
        });
      });
    }
  });

  withReference(`${family}: a sequence gives the same bits alone and in any batch`, (t) => {
    const network = loadModel(folder as string).network as CtcNetwork;
    const lengths = [3000, 16000, 401, 9000];
    const values = lengths.map((length, index) => randomValues(length, index));
    const logits = (items: readonly number[]): Float32Array[] =>
      tidy(() => {
        const offsets = new SequenceOffsets(items.map((item) => lengths[item] as number));
        const packed = Tensor.from(Float32Array.from(items.flatMap((item) => [...(values[item] as Float32Array)])), [offsets.frames, 1]);
        const result = network.forward(packed, offsets);
        return items.map((_, item) => {
          const begin = result.offsets.begin(item);
          return result.logits.rows(begin, begin + (result.offsets.lengths[item] as number)).toArray();
        });
      });
    const together = logits([0, 1, 2, 3]);
    lengths.forEach((_, item) => t.deepEqual(logits([item])[0], together[item]));
    t.deepEqual(logits([3, 1])[0], together[3]);
  });
}

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "models");

for (const [name, what] of [
  ["wav2vec2_conformer_relative", "wav2vec2-conformer with relative positions"],
  ["wav2vec2_conformer_rotary", "wav2vec2-conformer with rotary positions"],
  ["hubert_batch_norm", "hubert with batch normalization before its positional convolution"],
  ["mms", "wav2vec2 with an adapter for its language"],
  ["wav2vec2_adapter", "wav2vec2 with an adapter that shortens, ReLU and SiLU"],
] as const) {
  test(`${what}: forward agrees with transformers`, (t) => {
    const folder = join(fixtures, name);
    const { network } = loadModel(folder);
    using expected = readExpected(folder);
    throughFile(paddedForward(network, expected), (ours) => {
      for (const name of ["encoder_last_hidden_state", "logits"]) {
        t.deepEqual(ours.shape(name), expected.shape(name));
        const [, frames = 0] = ours.shape(name);
        const error = relativeError(ours.values(name) as Float32Array, expected.values(name) as Float32Array, frames, [frames]);
        t.log(`${name}: relative error ${error}`);
        t.true(error < 1e-3, `${name}: relative error ${error}`);
      }
      t.deepEqual(ours.values("tokens"), expected.values("tokens"));
    });
  });
}

const small = {
  model_type: "hubert",
  hidden_size: 16,
  num_hidden_layers: 1,
  num_attention_heads: 2,
  intermediate_size: 20,
  conv_dim: [8],
  conv_kernel: [10],
  conv_stride: [5],
  num_conv_pos_embeddings: 6,
  num_conv_pos_embedding_groups: 4,
  vocab_size: 9,
};

test("both names of the weight-normalized convolution are read", (t) => {
  const folder = temporaryFolder("wav2vec2");
  t.teardown(folder.clean);
  const config = { ...small, model_type: "wav2vec2" };
  const model = writeRandomModel(folder.path, config, { feature_extractor_type: "Wav2Vec2FeatureExtractor" });
  const samples = randomValues(600, 1);
  const logits = (): Float32Array => {
    const { network } = loadModel(model) as SpeechModel & { network: CtcNetwork };
    return tidy(() => network.forward(Tensor.from(samples, [600, 1]), new SequenceOffsets([600])).logits.toArray());
  };
  const before = logits();
  editWeights(model, (entries) => {
    for (const [old, name] of [
      ["parametrizations.weight.original0", "weight_g"],
      ["parametrizations.weight.original1", "weight_v"],
    ] as const) {
      const key = `wav2vec2.encoder.pos_conv_embed.conv.${old}`;
      entries.set(`wav2vec2.encoder.pos_conv_embed.conv.${name}`, entries.get(key) as never);
      entries.delete(key);
    }
  });
  t.deepEqual(logits(), before);
});

test("keys have a meaning where transformers gives them one", (t) => {
  const weights = (change: object): string[] => {
    const network = describeModel({ ...small, ...change } as never, "config.json").network(new FreshWeights(1));
    const names = [...network.parameters().keys(), ...network.buffers().keys()].filter((name) => /adapter_layer|batch_norm/.test(name));
    network.dispose();
    return names.map((name) => name.replace(/^.*(pos_conv_embed|layers)\./, ""));
  };
  const adapter = ["norm.weight", "norm.bias", "linear_1.weight", "linear_1.bias", "linear_2.weight", "linear_2.bias"];
  const stable = { adapter_attn_dim: 4, do_stable_layer_norm: true };
  t.deepEqual(
    weights({ model_type: "wav2vec2", ...stable, conv_pos_batch_norm: true }),
    adapter.map((name) => `0.adapter_layer.${name}`),
  );
  t.deepEqual(weights({ model_type: "hubert", ...stable }).length, adapter.length);
  t.deepEqual(weights({ model_type: "wav2vec2", adapter_attn_dim: 4 }), [], "blocks that normalize their sums have none");
  const conformer = weights({ model_type: "wav2vec2-conformer", ...stable, conv_pos_batch_norm: true });
  t.true(conformer.every((name) => name.startsWith("0.conv_module.batch_norm.")), "that of its convolution module");
  const norm = ["weight", "bias", "running_mean", "running_var"];
  t.deepEqual(
    weights({ conv_pos_batch_norm: true }),
    norm.map((name) => `batch_norm.${name}`),
  );
});

test("a configuration that the network cannot honour is refused by key", (t) => {
  const refuse = (change: Record<string, unknown>, message: RegExp): void => {
    t.throws(() => describeModel({ ...small, ...change } as never, "config.json"), { code: "BAD_CONFIG", message });
  };
  refuse({ architectures: ["HubertForSequenceClassification"] }, /"architectures" is HubertForSequenceClassification/);
  refuse({ conv_stride: [5, 2] }, /"conv_dim" must have as many entries/);
  refuse({ num_attention_heads: 3 }, /"hidden_size" must be divisible/);
  refuse({ num_conv_pos_embedding_groups: 5 }, /must be divisible by num_conv_pos_embedding_groups/);
  refuse({ pad_token_id: 9 }, /"pad_token_id" must be below/);
  refuse({ conv_pos_batch_norm: "yes" }, /"conv_pos_batch_norm"/);
  refuse({ add_adapter: true }, /"add_adapter" is true; models of this family have no such layers/);
  refuse({ model_type: "wav2vec2", add_adapter: true, adapter_kernel_size: 5 }, /"adapter_kernel_size" is 5; it must be 3/);
  refuse({ model_type: "wav2vec2", add_adapter: true, adapter_stride: 0 }, /"adapter_stride"/);
  refuse({ feat_extract_activation: "tanh" }, /"feat_extract_activation"/);
  refuse({ adapter_attn_dim: 0 }, /"adapter_attn_dim"/);
  refuse({ feat_extract_norm: "batch" }, /"feat_extract_norm"/);
  refuse({ hidden_act: "tanh" }, /"hidden_act"/);
  refuse({ model_type: "wav2vec2-conformer", position_embeddings_type: "relative_key" }, /"position_embeddings_type"/);
  t.throws(() => rawSamplesFrom({ feature_size: 2 }, "p.json"), { code: "BAD_CONFIG", message: /feature_size is 2/ });
  t.throws(() => rawSamplesFrom({ mel: 2 }, "p.json"), {
    code: "BAD_CONFIG",
    message: /"mel" is not known to the Wav2Vec2FeatureExtractor/,
  });
});
