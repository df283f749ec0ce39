import { assertClose, realGpu } from "./gpu.js";
import { copyFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { attentionWeights } from "../lib/decode/token_alignment.js";
import { compressModel, DeviceTensor, loadModel, Recognizer, SequenceOffsets, Tensor, tidy, type RecognizedSpeech } from "../lib/index.js";
import { describeModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import type { SequenceToSequenceNetwork } from "../lib/models/speech_network.js";
import { randomTensor } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { readExpected, referenceFolder, relativeError, throughFile } from "./reference.js";
import { temporaryFolder, tones } from "./tiny_model.js";

const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures");
const whisper = referenceFolder("whisper");
const folder = temporaryFolder("device-decoder");
test.after.always(folder.clean);

// Windows of 30 s: too much for the emulator.
(whisper && realGpu ? test : test.skip)("Whisper computes on the GPU what transformers does", (t) => {
  const { network, device } = loadModel(whisper as string, { device: "cuda" });
  t.is(device, "cuda");
  using expected = readExpected(whisper as string);
  throughFile(paddedForward(network, expected, { device: "cuda" }), (ours) => {
    for (const name of ["encoder_last_hidden_state", "logits"]) {
      const [batch = 0, rows = 0] = ours.shape(name);
      t.deepEqual(ours.shape(name), expected.shape(name));
      const error = relativeError(
        ours.values(name) as Float32Array,
        expected.values(name) as Float32Array,
        rows,
        new Array<number>(batch).fill(rows),
      );
      t.true(error < 3e-2, `${name}: relative error ${error}`);
    }
  });
});

/** Encodes two recordings, writes to both with hypotheses that share their past, with a long prompt more tokens than a first cache holds. */
function conversation(
  network: SequenceToSequenceNetwork,
  prompted: number,
  place: (x: Tensor) => Tensor,
): { scores: Float32Array[]; looked: Float32Array[] } {
  return tidy(() => {
    const offsets = new SequenceOffsets([120, 64]);
    using memory = network.remember(network.encode(place(randomTensor([offsets.frames, network.featureSize], 1)), offsets));
    using session = network.session(memory);
    const looked: Float32Array[] = [];
    const say = (steps: Parameters<typeof session.advance>[0]): { scores: Float32Array; rows: number[][] } => {
      const { hidden, rows } = session.advance(steps, (_, queries, keys) => looked.push(attentionWeights(queries, keys, 1, 0).values));
      return { scores: network.scores(hidden).toArray(), rows };
    };
    const prompt = Array.from({ length: prompted }, (_, i) => i % 20);
    const first = say([
      { past: [], tokens: prompt, item: 0 },
      { past: [], tokens: [3, 1], item: 1 },
    ]);
    const [long, short] = first.rows as [number[], number[]];
    const second = say([
      { past: long, tokens: [7], item: 0 },
      { past: long, tokens: [8], item: 0 },
      { past: short, tokens: prompt.slice(0, 24), item: 1 },
    ]);
    return { scores: [first.scores, second.scores], looked };
  });
}

test("recorded steps give the bits of steps that are not, for any number of hypotheses and after the cache has grown", (t) => {
  const sizes = { hidden_size: 64, num_hidden_layers: 1, num_attention_heads: 1, intermediate_size: 16 };
  const config = {
    model_type: "cohere_asr",
    vocab_size: 24,
    ...sizes,
    max_position_embeddings: 96,
    encoder_config: { ...sizes, subsampling_conv_channels: 8, num_mel_bins: 16 },
  };
  const model = writeRandomModel(join(folder.path, "steps"), config, {
    feature_extractor_type: "CohereAsrFeatureExtractor",
    feature_size: 16,
  });
  const network = loadModel(model, { device: "cuda" }).network as SequenceToSequenceNetwork;
  const write = (observe?: () => void): Float32Array[] =>
    tidy(() => {
      const offsets = new SequenceOffsets([40, 24]);
      using memory = network.remember(network.encode(DeviceTensor.from(randomTensor([offsets.frames, 16], 1)), offsets));
      using session = network.session(memory);
      const prompts = [27, 29].map((length, item) => ({ past: [], tokens: Array.from({ length }, (_, i) => (i + item) % 24), item }));
      let { rows } = session.advance(prompts, observe);
      // One alone, both, both with their items exchanged, one with two continuations, three where there is room for four.
      return [[0], [0], [0, 1], [0, 1], [1, 0], [0, 0], [0, 1, 1], [1, 0, 0], [0, 1, 0]].map((order, step) => {
        const next = session.advance(
          order.map((index) => ({ past: rows[index] as number[], tokens: [(7 * step + index) % 24], item: index })),
          observe,
        );
        rows =
          order.length === 1
            ? [next.rows[0] as number[], rows[1] as number[]]
            : (order.map((_, index) => next.rows[order.indexOf(index)] ?? rows[index]) as number[][]);
        return next.hidden.toArray();
      });
    });
  const [recorded, asked] = [write(), write(() => undefined)];
  recorded.forEach((hidden, step) => t.deepEqual(hidden, asked[step], `step ${step}`));
  t.false(recorded.some((hidden) => hidden.some(Number.isNaN)));
});

test("hypotheses share their past on the GPU, packed or not, and the cache grows", async (t) => {
  const encoder_config = {
    hidden_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 16,
    subsampling_conv_channels: 8,
    num_mel_bins: 16,
  };
  const config = {
    model_type: "cohere_asr",
    vocab_size: 40,
    hidden_size: 64,
    num_hidden_layers: 1,
    num_attention_heads: 1,
    intermediate_size: 16,
    hidden_act: "gelu",
    max_position_embeddings: 96,
    tie_word_embeddings: true,
    encoder_config,
  };
  const float = writeRandomModel(join(folder.path, "float"), config, {
    feature_extractor_type: "CohereAsrFeatureExtractor",
    feature_size: 16,
  });
  const packed = join(folder.path, "packed");
  await compressModel({ model: float, recipe: roundToNearest("int8"), manifest: undefined, out: packed });
  for (const [model, prompted] of [
    [float, 4],
    [packed, 40],
  ] as const) {
    const onGpu = conversation(loadModel(model, { device: "cuda" }).network as SequenceToSequenceNetwork, prompted, (x) =>
      DeviceTensor.from(x),
    );
    const onCpu = conversation(loadModel(model, { weights: "float32" }).network as SequenceToSequenceNetwork, prompted, (x) => x);
    onGpu.scores.forEach((scores, i) =>
      assertClose(t, scores, onCpu.scores[i] as Float32Array, 3e-2, `scores ${i} of ${model === float ? "floats" : "int8"}`),
    );
    t.true(onGpu.looked.length > 0 && onGpu.looked.length === onCpu.looked.length);
    onGpu.looked.forEach((weights, i) => assertClose(t, weights, onCpu.looked[i] as Float32Array, 3e-2, `attention ${i}`));
  }
});

test("a recording is written on the GPU, greedily and by a beam", (t) => {
  // The byte-level fixture has ids 0..299 of text, 300 the end, 301 <|en|>, 302 <|0.00|>.
  const sizes = {
    d_model: 16,
    num_mel_bins: 80,
    encoder_layers: 1,
    encoder_attention_heads: 2,
    encoder_ffn_dim: 24,
    decoder_layers: 1,
    decoder_attention_heads: 1,
    decoder_ffn_dim: 24,
    max_source_positions: 50,
    max_target_positions: 9,
  };
  const generation = {
    decoder_start_token_id: 310,
    eos_token_id: 300,
    no_timestamps_token_id: 311,
    max_initial_timestamp_index: 10,
    lang_to_id: { "<|en|>": 301 },
    task_to_id: { transcribe: 306 },
  };
  const preprocessor = { feature_extractor_type: "WhisperFeatureExtractor", feature_size: 80, chunk_length: 1 };
  const model = writeRandomModel(join(folder.path, "whisper"), { model_type: "whisper", vocab_size: 400, ...sizes }, preprocessor, {
    seed: 3,
    generation,
  });
  copyFileSync(join(fixtures, "text", "tokenizer_byte_level.json"), join(model, "tokenizer.json"));
  const samples = tones(0.8, 2);
  for (const beamWidth of [1, 3]) {
    const recognizers = (["cuda", "cpu"] as const).map(
      (device) => new Recognizer(loadModel(model, { device }), { language: "en", beamWidth }),
    );
    const [onGpu, onCpu] = recognizers.map((recognizer) => recognizer.transcribe(samples)) as [RecognizedSpeech, RecognizedSpeech];
    if (beamWidth === 1) t.deepEqual(recognizers[0]?.transcribeBatch([tones(0.5, 7), samples])[1], onGpu, "beside another, to the bit");
    t.is(onGpu.text, onCpu.text, `${beamWidth} hypotheses`);
    t.true(onGpu.tokens.length > 0 && Math.abs(onGpu.logProbability - onCpu.logProbability) < 3e-2 * Math.abs(onCpu.logProbability));
  }
});

test("passes of Whisper's encoder are recorded for windows that come again, and give what they give unrecorded", (t) => {
  const config = {
    d_model: 16,
    encoder_layers: 2,
    encoder_attention_heads: 2,
    encoder_ffn_dim: 24,
    max_source_positions: 20,
    num_mel_bins: 16,
  };
  const model = writeRandomModel(
    join(folder.path, "windows"),
    { model_type: "whisper", vocab_size: 24, decoder_layers: 1, decoder_attention_heads: 2, decoder_ffn_dim: 24, ...config },
    { feature_extractor_type: "WhisperFeatureExtractor", feature_size: 16, chunk_length: 1, hop_length: 400 },
    { generation: { decoder_start_token_id: 20, eos_token_id: 21, no_timestamps_token_id: 22 } },
  );
  const { network } = loadModel(model, { device: "cuda" });
  const encode = (windows: number, seed: number): Float32Array =>
    tidy(() => {
      const offsets = new SequenceOffsets(new Array<number>(windows).fill(40));
      const features = DeviceTensor.from(randomTensor([offsets.frames, 16], seed));
      const { hidden, offsets: found } = (network as SequenceToSequenceNetwork).encode(features, offsets);
      t.deepEqual(found.lengths, new Array<number>(windows).fill(20));
      return hidden.toArray();
    });
  // The first pass of a shape is not recorded, the second is, the third is a recording that others have gone through.
  for (const windows of [1, 2]) {
    const asked = encode(windows, 1);
    t.deepEqual(encode(windows, 1), asked);
    t.notDeepEqual(encode(windows, 2), asked);
    t.deepEqual(encode(windows, 1), asked);
  }
  t.throws(() => tidy(() => (network as SequenceToSequenceNetwork).encode(DeviceTensor.zeros([39, 16]), new SequenceOffsets([39]))), {
    code: "INVALID_ARGUMENT",
    message: /window has 39 frames/,
  });
  network.dispose();
});

test("widths that the kernels do not take compute on the CPU", (t) => {
  const config = { model_type: "whisper", d_model: 64, encoder_attention_heads: 4, decoder_attention_heads: 4, num_mel_bins: 80 };
  const weights = (change: object): RegExp | undefined => describeModel({ ...config, ...change } as never, "config.json").gpuWeights;
  t.true(weights({}) instanceof RegExp);
  for (const change of [{ num_mel_bins: 20 }, { d_model: 48 }, { decoder_ffn_dim: 100 }])
    t.is(weights(change), undefined, JSON.stringify(change));
});
