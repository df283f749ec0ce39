import { copyFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { whisperFeaturesFrom } from "../lib/audio/whisper_features.js";
import { availableInstructionSets, Recognizer, setInstructionSet, SequenceOffsets, Tensor, tidy } from "../lib/index.js";
import { describeModel, loadModel, type SpeechModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import type { SequenceToSequenceNetwork } from "../lib/models/speech_network.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";
import type { TextTokenizer } from "../lib/text/text_tokenizer.js";
import { WindowDecoder } from "../lib/transcribe/window_decoding.js";
import { randomValues } from "./gradient.js";
import { writeRandomModel } from "./random_model.js";
import { readExpected, referenceClips, referenceFolder, relativeError, throughFile } from "./reference.js";
import { temporaryFolder, tones } from "./tiny_model.js";

const reference = referenceFolder("whisper");
const withReference = reference ? test : test.skip;
const fixtures = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "text");

withReference("features agree with transformers", async (t) => {
  const { frontEnd } = loadModel(reference as string);
  using expected = readExpected(reference as string);
  const wanted = expected.values("input_features") as Float32Array;
  const [, bins = 0, frames = 0] = expected.shape("input_features");
  (await referenceClips()).forEach((clip, item) => {
    using features = frontEnd.features(clip);
    t.deepEqual(features.shape, [frames, bins]);
    const ours = features.toArray();
    const turned = Float32Array.from(
      { length: ours.length },
      (_, i) => wanted[item * bins * frames + (i % bins) * frames + Math.floor(i / bins)] as number,
    );
    const error = relativeError(ours, turned, frames, [frames]);
    t.log(`relative error ${error}`);
    t.true(error < 1e-3, `clip ${item}: ${error}`);
  });
});

(reference ? test.serial : test.skip)("forward agrees with transformers on every instruction set", (t) => {
  const { network } = loadModel(reference as string);
  using expected = readExpected(reference as string);
  for (const set of availableInstructionSets().filter((name) => name !== "reference")) {
    setInstructionSet(set);
    throughFile(paddedForward(network, expected), (ours) => {
      for (const name of ["encoder_last_hidden_state", "logits"]) {
        t.deepEqual(ours.shape(name), expected.shape(name));
        const [batch = 0, rows = 0] = ours.shape(name);
        const error = relativeError(
          ours.values(name) as Float32Array,
          expected.values(name) as Float32Array,
          rows,
          new Array<number>(batch).fill(rows),
        );
        t.log(`${name} on ${set}: relative error ${error}`);
        t.true(error < 1e-3, `${name} on ${set}: relative error ${error}`);
      }
      t.deepEqual(ours.values("tokens"), expected.values("tokens"));
    });
  }
});

const folder = temporaryFolder("whisper");
test.after.always(folder.clean);

// Ids of the byte-level fixture: 0..299 text, 300 end, 301 <|en|>, 302 <|0.00|>; what follows is ours.
const config = {
  model_type: "whisper",
  vocab_size: 400,
  num_mel_bins: 80,
  d_model: 16,
  encoder_layers: 1,
  encoder_attention_heads: 2,
  encoder_ffn_dim: 24,
  decoder_layers: 2,
  decoder_attention_heads: 2,
  decoder_ffn_dim: 24,
  max_source_positions: 50,
  max_target_positions: 24,
};
const generation = {
  decoder_start_token_id: 310,
  eos_token_id: 300,
  no_timestamps_token_id: 311,
  max_initial_timestamp_index: 10,
  lang_to_id: { "<|en|>": 301, "<|de|>": 305 },
  task_to_id: { transcribe: 306, translate: 307 },
  suppress_tokens: [5, 6],
  begin_suppress_tokens: [7],
};
const preprocessor = { feature_extractor_type: "WhisperFeatureExtractor", feature_size: 80, chunk_length: 1 };

const model = writeRandomModel(join(folder.path, "random"), config, preprocessor, { seed: 3, generation });
copyFileSync(join(fixtures, "tokenizer_byte_level.json"), join(model, "tokenizer.json"));

test("windows of another length than the encoder's are refused when the model is loaded", (t) => {
  for (const [name, chunk_length] of Object.entries({ longer: 2, endless: 1e18 })) {
    const other = writeRandomModel(join(folder.path, name), config, { ...preprocessor, chunk_length }, { seed: 3, generation });
    t.throws(() => loadModel(other), {
      code: "BAD_CONFIG",
      message:
        /preprocessor_config\.json: chunk_length gives windows of \d+ frames, but .*config\.json has max_source_positions 50, which asks for 100/,
    });
  }
});

test("cached decoding gives what decoding of the whole gives, alone and beside others", (t) => {
  const network = loadModel(model).network as SequenceToSequenceNetwork;
  const features = Tensor.from(randomValues(200 * 80, 1), [200, 80]);
  const offsets = new SequenceOffsets([100, 100]);
  const tokens = [310, 301, 306, 12, 40, 41, 13, 100];
  using memory = network.remember(network.encode(features, offsets));
  using whole = network.session(memory);
  const wanted = whole.advance([{ past: [], tokens, item: 1 }]).hidden.toArray();
  using session = network.session(memory);
  const first = session.advance([
    { past: [], tokens: tokens.slice(0, 3), item: 0 },
    { past: [], tokens: tokens.slice(0, 3), item: 1 },
  ]);
  const parts = [first.hidden.rows(3, 6).toArray()];
  let rows = first.rows[1] as number[];
  // Two continuations share their past; the first goes astray.
  for (const id of tokens.slice(3)) {
    const next = session.advance([
      { past: rows, tokens: [50], item: 1 },
      { past: rows, tokens: [id], item: 1 },
    ]);
    parts.push(next.hidden.rows(1, 2).toArray());
    rows = next.rows[1] as number[];
  }
  const error = relativeError(Float32Array.from(parts.flatMap((part) => [...part])), wanted, tokens.length, [tokens.length]);
  t.true(error < 1e-5, `${error}`);
  using alone = network.remember(tidy(() => network.encode(features.rows(100, 200), new SequenceOffsets([100]))));
  using one = network.session(alone);
  t.deepEqual(one.advance([{ past: [], tokens, item: 0 }]).hidden.toArray(), wanted, "an item alone gives the same bits");
});

test("recordings of any length are written window by window, with times that go on", (t) => {
  const recognizer = new Recognizer(loadModel(model));
  const samples = tones(2.6, 2);
  const speech = recognizer.transcribe(samples);
  t.is(speech.duration, 2.6);
  t.true(speech.tokens.length > 0 && speech.tokens.every(({ id }) => id < 300 && id !== 5 && id !== 6));
  speech.tokens.reduce((end, token) => {
    t.true(token.start >= end - 1e-9 && token.end >= token.start && token.end <= 2.6 + 1e-9);
    return token.start;
  }, 0);
  t.is(speech.words.map(({ word }) => word).join(""), speech.text.replace(/\s+/g, ""));
  speech.words.reduce((begin, word) => {
    t.true(word.start >= begin - 1e-9 && word.end >= word.start && word.end <= 2.6 + 1e-9);
    return word.start;
  }, 0);
  t.deepEqual(recognizer.transcribeBatch([tones(1, 1), samples])[1], speech, "beside another");
});

test("language and task choose the prompt, and unknown ones are refused", (t) => {
  const loaded = loadModel(model);
  const samples = tones(1, 3);
  const texts = [{}, { language: "en" }, { language: "de" }, { language: "de", task: "translate" as const }].map(
    (options) => new Recognizer(loaded, options).transcribe(samples).logProbability,
  );
  t.true(texts[0] === texts[1] || texts[0] === texts[2], "what is heard is one of the two");
  t.is(new Set(texts.slice(1)).size, 3);
  t.throws(() => new Recognizer(loaded, { language: "xx" }), { code: "INVALID_ARGUMENT", message: /no language "xx"; it knows en, de/ });
  t.throws(() => new Recognizer(loaded).windowSearch({ hotwords: ["a"] }), { code: "INVALID_ARGUMENT", message: /no hotwords/ });
  t.true(new Recognizer(loaded, { beamWidth: 3 }).transcribe(samples).tokens.length > 0);
});

test("what is never said is in generation_config.json, or in config.json where there is no such file", (t) => {
  const own = { ...config, suppress_tokens: [1], begin_suppress_tokens: [2], decoder_start_token_id: 310, eos_token_id: [300] };
  const described = (json: object, generationJson: object): SequenceToSequenceNetwork["generation"] =>
    (describeModel(json as never, "x/config.json", generationJson as never).network(new FreshWeights(1)) as SequenceToSequenceNetwork)
      .generation;
  t.like(described(own, {}), { suppressed: [1], suppressedFirst: [2], startId: 310, endId: 300 });
  t.like(described(own, { decoder_start_token_id: 311 }), { suppressed: [], suppressedFirst: [], startId: 311, endId: 300 });
  t.like(described(own, { suppress_tokens: [5] }), { suppressed: [5], suppressedFirst: [], startId: 310 });
  // The defaults of transformers are those of the English models.
  t.like(described({ ...config, vocab_size: 50300 }, {}), { suppressed: [], suppressedFirst: [220, 50256], startId: 50257, endId: 50256 });
});

/** Most tokens that the decoder writes in one go about a window. */
function mostSteps(path: string): number {
  const { network, frontEnd, textTokenizer } = loadModel(path);
  const writer = network as SequenceToSequenceNetwork;
  const sessions: number[] = [];
  const open = writer.session.bind(writer);
  writer.session = (memory) => {
    const session = open(memory);
    const [advance, clear] = [session.advance.bind(session), session.clear.bind(session)];
    session.clear = () => (sessions.push(0), clear());
    session.advance = (...step) => ((sessions[sessions.length - 1] as number)++, advance(...step));
    return session;
  };
  new WindowDecoder(writer, frontEnd, textTokenizer as TextTokenizer, { language: "en" }).forward([{ samples: tones(1, 2) }]);
  return Math.max(...sessions);
}

test("texts may become as long as in transformers, which does not count the prompt in max_length", (t) => {
  const longest = (keys: object, prompt = 4, own: object = {}): number =>
    (
      describeModel({ ...config, max_target_positions: 40, ...own } as never, "x/config.json", keys as never).network(
        new FreshWeights(1),
      ) as SequenceToSequenceNetwork
    ).generation.maximumLength(prompt);
  const within = (keys: object, prompt?: number): number => longest({ ...generation, ...keys }, prompt);
  // What transformers 5.18 writes where nothing ends a text before.
  for (const [maximum, length] of [
    [1, 5],
    [5, 9],
    [20, 24],
    [36, 40],
    [37, 40],
    [100, 40],
  ] as const)
    t.is(within({ max_length: maximum }), length, `max_length ${maximum}`);
  t.is(within({ max_length: 5 }, 3), 8);
  for (const [added, length] of [
    [1, 5],
    [5, 9],
    [36, 40],
    [37, 40],
  ] as const)
    t.is(within({ max_new_tokens: added, max_length: 9 }), length, `max_new_tokens ${added}`);
  t.is(longest({}, 1, { ...generation, max_length: 7 }), 8, "of config.json where there is no generation_config.json");
  t.is(longest(generation, 4, { max_length: 7 }), 40);
  t.is(within({}), 40);
  for (const key of ["max_length", "max_new_tokens"]) {
    for (const value of [0, -1, 1.5, "long"]) t.throws(() => within({ [key]: value }), { code: "BAD_CONFIG", message: RegExp(key) });
  }
  const short = writeRandomModel(join(folder.path, "short"), config, preprocessor, {
    seed: 3,
    generation: { ...generation, max_length: 2 },
  });
  copyFileSync(join(fixtures, "tokenizer_byte_level.json"), join(short, "tokenizer.json"));
  t.true(mostSteps(model) > 2);
  t.is(mostSteps(short), 2);
});

test("scale_embedding scales nothing, as in transformers", (t) => {
  const hidden = (json: object): Float32Array =>
    tidy(() => {
      const network = describeModel(json as never, "c", generation as never).network(new FreshWeights(1)) as SequenceToSequenceNetwork;
      using memory = network.remember(network.encode(Tensor.zeros([100, 80]), new SequenceOffsets([100])));
      using session = network.session(memory);
      return session.advance([{ past: [], tokens: [310, 12], item: 0 }]).hidden.toArray();
    });
  t.deepEqual(hidden({ ...config, scale_embedding: true }), hidden(config));
});

test("configurations that cannot be honoured are refused by key", (t) => {
  const refuse = (change: object, generationChange: object, message: RegExp): void => {
    t.throws(() => describeModel({ ...config, ...change } as never, "x/config.json", { ...generation, ...generationChange } as never), {
      code: "BAD_CONFIG",
      message,
    });
  };
  refuse({ d_model: 17 }, {}, /"d_model" must be divisible by encoder_attention_heads/);
  refuse({ activation_function: "gelu_new" }, {}, /"activation_function"/);
  refuse({}, { repetition_penalty: 1.2 }, /x\/generation_config\.json: key "repetition_penalty" is 1\.2/);
  refuse({}, { no_repeat_ngram_size: 3 }, /"no_repeat_ngram_size"/);
  refuse({}, { forced_bos_token_id: 3 }, /"forced_bos_token_id" is 3/);
  refuse({}, { do_sample: true }, /"do_sample"/);
  refuse({}, { decoder_start_token_id: 400 }, /"decoder_start_token_id" must be below vocab_size/);
  refuse(
    {},
    {
      alignment_heads: [
        [0, 1],
        [2, 0],
      ],
    },
    /"alignment_heads" names layer 2, head 0; the decoder has 2 layers of 2 heads/,
  );
  refuse({ median_filter_width: 4 }, {}, /"median_filter_width": must be odd/);
  refuse({}, { suppress_tokens: "all" }, /"suppress_tokens"/);
  t.throws(() => whisperFeaturesFrom({ dither: 0.1 }, "p.json"), { code: "BAD_CONFIG", message: /dither/ });
  t.throws(() => whisperFeaturesFrom({ n_fft: 300 }, "p.json"), { code: "BAD_CONFIG", message: /twos and fives/ });
  const loaded: SpeechModel = loadModel(model);
  const wrong = new SequenceOffsets([90]);
  t.throws(() => (loaded.network as SequenceToSequenceNetwork).encode(Tensor.zeros([90, 80]), wrong), {
    code: "INVALID_ARGUMENT",
    message: /90 frames of features; this model takes 100/,
  });
});
