/** Recordings on the GPU give the same bits whatever they are recognized together with, unless that was given up for speed. */
import { realGpu } from "./gpu.js";
import { copyFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import {
  deviceAttention,
  deviceLinear,
  DeviceSequences,
  DeviceTensor,
  DeviceWeight,
  loadModel,
  packWeight,
  Recognizer,
  SequenceOffsets,
  tidy,
} from "../lib/index.js";
import { batchInvariantly } from "../lib/device/batch_invariance.js";
import { packedTiny } from "./adapters.js";
import { randomTensor } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { temporaryFolder, tones, writeTinyModel } from "./tiny_model.js";

const folder = temporaryFolder("device-batch-invariance");
test.after.always(folder.clean);

const transformer = { hidden_size: 64, num_hidden_layers: 1, num_attention_heads: 2, intermediate_size: 64 };

const letters = { "<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, A: 5, B: 6, C: 7, D: 8 };

function parakeet(): string {
  const encoder = { ...transformer, conv_kernel_size: 5, subsampling_factor: 4, subsampling_conv_channels: 16, num_mel_bins: 16 };
  const config = { model_type: "parakeet_ctc", vocab_size: 61, pad_token_id: 60, encoder_config: encoder };
  const model = writeRandomModel(join(folder.path, "parakeet"), config, {
    feature_extractor_type: "ParakeetFeatureExtractor",
    feature_size: 16,
  });
  copyFileSync(
    join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text", "tokenizer_metaspace.json"),
    join(model, "tokenizer.json"),
  );
  return model;
}

function wav2vec2(): string {
  const front = {
    conv_dim: [16, 16, 16],
    conv_kernel: [10, 8, 4],
    conv_stride: [8, 8, 4],
    num_conv_pos_embeddings: 6,
    num_conv_pos_embedding_groups: 2,
  };
  const config = { model_type: "wav2vec2", ...transformer, ...front, vocab_size: 9 };
  const model = writeRandomModel(join(folder.path, "wav2vec2"), config, {
    feature_extractor_type: "Wav2Vec2FeatureExtractor",
    return_attention_mask: true,
  });
  writeFileSync(join(model, "vocab.json"), JSON.stringify(letters));
  return model;
}

function wav2vec2Bert(): string {
  const config = { model_type: "wav2vec2-bert", ...transformer, feature_projection_input_dim: 32, add_adapter: true, vocab_size: 9 };
  const preprocessor = { feature_extractor_type: "SeamlessM4TFeatureExtractor", num_mel_bins: 16 };
  const model = writeRandomModel(join(folder.path, "wav2vec2-bert"), config, preprocessor);
  writeFileSync(join(model, "vocab.json"), JSON.stringify(letters));
  return model;
}

const utterances = [0.3, 2.4, 1.1].map((seconds, seed) => tones(seconds, seed));

/** Recordings in which some value differs. */
const differing = (some: readonly Float32Array[], others: readonly Float32Array[]): number[] =>
  some.flatMap((values, index) =>
    Buffer.from(values.buffer, values.byteOffset, values.byteLength).equals(Buffer.from((others[index] as Float32Array).buffer))
      ? []
      : [index],
  );

for (const [name, make] of [
  ["lasr_ctc, int4+2:4", async () => packedTiny(writeTinyModel(join(folder.path, "float"), { hidden: 64 }), join(folder.path, "packed"))],
  ["parakeet_ctc", async () => parakeet()],
  ["wav2vec2", async () => wav2vec2()],
  ["wav2vec2-bert", async () => wav2vec2Bert()],
] as const) {
  test.serial(`${name}: no bit depends on the batch, nor on whether a pass was recorded`, async (t) => {
    const model = await make();
    const loaded = loadModel(model, { device: "cuda" });
    const recognizer = new Recognizer(loaded, { decoder: "greedy" });
    const hear = (heard: readonly Float32Array[]): Float32Array[] => recognizer.logProbabilities(heard).map((one) => one.values);
    const alone = utterances.map((one) => hear([one])[0] as Float32Array);
    t.deepEqual(differing(hear(utterances), alone), []);
    t.deepEqual(differing(hear(utterances), alone), [], "recorded");
    loaded.network.dispose();
  });
}

test.serial("a pass asks for it once for all of its operations, and what they are told themselves comes first", (t) => {
  tidy(() => {
    const [frames, width] = [131, 64]; // of which the emulator divides the keys
    const x = DeviceTensor.from(randomTensor([frames, width], 1));
    const weight = DeviceWeight.from(packWeight(randomTensor([width, width], 2), "int4"));
    const sequences = new DeviceSequences(new SequenceOffsets([frames]));
    const linear = (batchInvariant?: boolean): Float32Array =>
      deviceLinear(x, weight, batchInvariant === undefined ? {} : { batchInvariant }).toArray();
    const attention = (batchInvariant?: boolean): Float32Array =>
      deviceAttention(x, x, x, sequences, { heads: 2, ...(batchInvariant === undefined ? {} : { batchInvariant }) }).toArray();
    for (const operation of [linear, attention]) {
      const [invariant, fastest] = [operation(true), operation(false)];
      if (!realGpu && operation === attention) t.notDeepEqual(fastest, invariant);
      t.deepEqual(operation(), fastest);
      batchInvariantly(true, () => {
        t.deepEqual(operation(), invariant);
        t.deepEqual(operation(false), fastest);
        batchInvariantly(false, () => t.deepEqual(operation(), fastest));
        t.throws(
          () =>
            batchInvariantly(false, () => {
              throw new RangeError("midway");
            }),
          { instanceOf: RangeError },
        );
        t.deepEqual(operation(), invariant);
      });
      t.deepEqual(operation(), fastest);
    }
  });
});
