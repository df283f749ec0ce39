import test from "ava";
import { parakeetFeaturesFrom } from "../lib/audio/parakeet_features.js";
import { availableInstructionSets, setInstructionSet, SequenceOffsets, Tensor, tidy } from "../lib/operations.js";
import { transducerGreedy } from "../lib/decode/transducer_greedy.js";
import { describeModel, loadModel } from "../lib/models/model_folder.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import type { ParakeetForCtc } from "../lib/models/parakeet/parakeet_for_ctc.js";
import type { ParakeetTransducer } from "../lib/models/parakeet/parakeet_transducer.js";
import { randomValues } from "./gradient.js";
import { maskLengths, readExpected, referenceClips, referenceFolder, relativeError, throughFile } from "./reference.js";

const folders = Object.fromEntries(["parakeet_ctc", "parakeet_rnnt", "parakeet_tdt"].map((family) => [family, referenceFolder(family)]));
const withReference = folders["parakeet_ctc"] ? test : test.skip;

withReference("features agree with transformers", async (t) => {
  const { frontEnd } = loadModel(folders["parakeet_ctc"] as string);
  using expected = readExpected(folders["parakeet_ctc"] as string);
  const wanted = expected.values("input_features") as Float32Array;
  const [, frames = 0, bins = 0] = expected.shape("input_features");
  const lengths = maskLengths(expected, "attention_mask");
  (await referenceClips()).forEach((samples, item) => {
    using features = frontEnd.features(samples);
    t.deepEqual(features.shape, [lengths[item], bins]);
    const begin = item * frames * bins;
    const error = relativeError(features.toArray(), wanted.subarray(begin, begin + features.size), features.dim(0), [features.dim(0)]);
    t.log(`relative error ${error}`);
    t.true(error < 1e-3, `clip ${item}: ${error}`);
  });
});

for (const [family, folder] of Object.entries(folders)) {
  (folder ? test.serial : test.skip)(`${family}: forward agrees with transformers on every instruction set`, (t) => {
    const { network } = loadModel(folder as string);
    using expected = readExpected(folder as string);
    const lengths = maskLengths(expected, "encoder_mask");
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      throughFile(paddedForward(network, expected), (ours) => {
        for (const name of ["encoder_last_hidden_state", "logits"].filter((tensor) => expected.has(tensor))) {
          t.deepEqual(ours.shape(name), expected.shape(name));
          const [, frames = 0] = ours.shape(name);
          const error = relativeError(ours.values(name) as Float32Array, expected.values(name) as Float32Array, frames, lengths);
          t.log(`${name} on ${set}: relative error ${error}`);
          t.true(error < 1e-3, `${name} on ${set}: relative error ${error}`);
        }
        // A CTC token belongs to a frame, and padded frames have none; a transducer's tokens follow each other.
        const perFrame = expected.has("logits");
        const [, steps = 0] = ours.shape("tokens");
        lengths.forEach((length, item) => {
          const row = [item * steps, item * steps + (perFrame ? length : steps)] as const;
          t.deepEqual(ours.values("tokens").subarray(...row), expected.values("tokens").subarray(...row));
        });
      });
    }
  });
}

withReference("a sequence gives the same bits alone and in any batch", (t) => {
  const ctc = loadModel(folders["parakeet_ctc"] as string).network as ParakeetForCtc;
  const tdt = loadModel(folders["parakeet_tdt"] as string).network as ParakeetTransducer;
  const lengths = [61, 400, 13, 140];
  const values = lengths.map((length, index) => randomValues(length * 80, index));
  const outputs = (items: readonly number[]): unknown[] =>
    tidy(() => {
      const offsets = new SequenceOffsets(items.map((item) => lengths[item] as number));
      const packed = Tensor.from(Float32Array.from(items.flatMap((item) => [...(values[item] as Float32Array)])), [offsets.frames, 80]);
      const { logits, offsets: where } = ctc.forward(packed, offsets);
      const { projected } = tdt.encode(packed, offsets);
      const rows = (tensor: Tensor, item: number): Float32Array =>
        tensor.rows(where.begin(item), where.begin(item) + (where.lengths[item] as number)).toArray();
      const inputs = items.map((_, item) => ({ values: rows(projected, item), frames: where.lengths[item] as number }));
      return transducerGreedy(tdt, inputs).map((path, item) => ({ logits: rows(logits, item), path }));
    });
  const together = outputs([0, 1, 2, 3]);
  lengths.forEach((_, item) => t.deepEqual(outputs([item])[0], together[item]));
  t.deepEqual(outputs([3, 1])[0], together[3]);
});

test("windows of an odd length lie where those of torch.stft do", (t) => {
  // What transformers 5.18 gives for these samples, computed in float64.
  const expected = [-1.24639, -1.41616, -1.48667, 0.75797, 0.76427, 0.66154, -0.36927, 0.01139, 0.48923, 0.85769, 0.6405, 0.33589];
  const frontEnd = parakeetFeaturesFrom({ feature_size: 3, n_fft: 20, win_length: 7, hop_length: 5 }, "p.json");
  using features = frontEnd.features(Float32Array.from({ length: 22 }, (_, i) => Math.sin((i * i) / 5)));
  t.deepEqual(features.shape, [4, 3]);
  t.true(relativeError(features.toArray(), Float32Array.from(expected), 4, [4]) < 1e-4);
});

test("a configuration that the network cannot honour is refused by key", (t) => {
  const config = { model_type: "parakeet_tdt", vocab_size: 65, blank_token_id: 64 };
  const refuse = (change: object, message: RegExp, generation: object = {}): void => {
    t.throws(() => describeModel({ ...config, ...change } as never, "x/config.json", generation as never), { code: "BAD_CONFIG", message });
  };
  const encoder = (key: string, value: unknown, message: RegExp): void => refuse({ encoder_config: { [key]: value } }, message);
  refuse({ blank_token_id: 65 }, /config\.json: key "blank_token_id" must be below vocab_size/);
  refuse({ model_type: "parakeet_ctc", pad_token_id: 65 }, /"pad_token_id" must be below/);
  refuse({ hidden_act: "tanh" }, /"hidden_act"/);
  refuse({ durations: [0] }, /"durations" is \[0\]; one of them must be above 0/);
  refuse({ vocab_size: undefined }, /"vocab_size"/);
  encoder("hidden_size", 1001, /"encoder_config\.hidden_size" must be divisible by num_attention_heads/);
  encoder("hidden_act", "gelu", /"encoder_config\.hidden_act"/);
  encoder("conv_kernel_size", 8, /"encoder_config\.conv_kernel_size" must be odd/);
  encoder("subsampling_factor", 6, /"encoder_config\.subsampling_factor"/);
  encoder("subsampling_conv_kernel_size", 5, /"encoder_config\.subsampling_conv_kernel_size"/);
  encoder("attention_context_size", [1e9, 2], /"encoder_config\.attention_context_size\.0"/);
  encoder("attention_type", "rel_pos_local_attn", /"encoder_config\.attention_context_size" must be \[left, right\]/);
  encoder("attention_type", "abs_pos", /"encoder_config\.attention_type"/);
  encoder("num_mel_bins", 81, /"encoder_config\.num_mel_bins" must be a multiple of subsampling_factor/);
  encoder("num_key_value_heads", 3, /"encoder_config\.num_key_value_heads" must divide/);
  refuse({}, /generation_config\.json: key "decoder_start_token_id" is 3; it must be the blank, 64/, { decoder_start_token_id: 3 });
  refuse({}, /"suppress_tokens" names the token 5/, { suppress_tokens: [65, 5] });
  refuse({}, /"no_repeat_ngram_size"/, { no_repeat_ngram_size: 2 });
  t.notThrows(() => describeModel(config as never, "x/config.json", { suppress_tokens: [65, 66], decoder_start_token_id: 64 }));
  t.throws(() => parakeetFeaturesFrom({ dither: 0.1 }, "p.json"), { code: "BAD_CONFIG", message: /dither/ });
  t.throws(() => parakeetFeaturesFrom({ preemphasis: -1 }, "p.json"), { code: "BAD_CONFIG", message: /preemphasis is -1/ });
});

test("long recordings are subsampled in blocks that give what the whole gives, and a window sees what full attention sees", (t) => {
  const encoder = {
    hidden_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 16,
    subsampling_conv_channels: 4,
    num_mel_bins: 16,
  };
  const network = (change: object) =>
    describeModel(
      { model_type: "parakeet_ctc", vocab_size: 5, pad_token_id: 4, encoder_config: { ...encoder, ...change } } as never,
      "c",
    ).network(new FreshWeights(1)) as ParakeetForCtc;
  const frames = 8 * 300 + 3; // 301 hidden frames: three blocks
  const features = Tensor.from(randomValues(frames * 16, 2), [frames, 16]);
  const logits = (model: ParakeetForCtc, from: number, to: number): Float32Array =>
    tidy(() => model.forward(features.rows(from, to), new SequenceOffsets([to - from])).logits.toArray());
  const whole = network({});
  t.is(whole.hiddenFrames(frames), 301);
  const subsampled = (from: number, to: number): Float32Array =>
    tidy(() => whole.encoder.subsampling.forward(features.rows(from, to), new SequenceOffsets([to - from]), {}).output.toArray());
  // Hidden frames far from where a part begins are those of the whole.
  const all = subsampled(0, frames);
  t.deepEqual(subsampled(8 * 100, 8 * 200).slice(16 * 2, 16 * 90), all.slice(16 * 102, 16 * 190));
  const windowed = logits(network({ attention_type: "rel_pos_local_attn", attention_context_size: [400, 400] }), 0, frames);
  const full = logits(whole, 0, frames);
  t.true(relativeError(windowed, full, 301, [301]) < 1e-5);
  t.true(
    relativeError(logits(network({ attention_type: "rel_pos_local_attn", attention_context_size: [3, 3] }), 0, frames), full, 301, [301]) >
      1e-3,
  );
  t.deepEqual(logits(network({ max_position_embeddings: 300 }), 0, frames), full, "positions are made as far as they are needed");
});
