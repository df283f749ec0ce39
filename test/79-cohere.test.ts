import { writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import test from "ava";
import { cohereFeaturesFrom } from "../lib/audio/parakeet_features.js";
import { availableInstructionSets, compressModel, Recognizer, setInstructionSet } from "../lib/index.js";
import { parseCohereConfig, parseCohereGeneration } from "../lib/models/cohere/cohere_config.js";
import { cohereName } from "../lib/models/cohere/cohere_names.js";
import { writeSequences } from "../lib/decode/sequence_search.js";
import { describeModel, loadModel } from "../lib/models/model_folder.js";
import { paddedForward } from "../lib/models/padded_forward.js";
import { SequencePrompt } from "../lib/models/sequence_prompt.js";
import type { SequenceToSequenceNetwork } from "../lib/models/speech_network.js";
import { SequenceOffsets, tidy } from "../lib/operations.js";
import type { TextTokenizer } from "../lib/text/text_tokenizer.js";
import { WindowSearch } from "../lib/transcribe/window_search.js";
import { promptedLetters } from "./family_models.js";
import { writeRandomModel } from "./random_model.js";
import { roundToNearest } from "./recipes.js";
import { asDecoded, form, post, startServer, wav } from "./serving.js";
import { temporaryFolder, tones } from "./tiny_model.js";
import { maskLengths, readExpected, relativeError, throughFile } from "./reference.js";

const fixture = join(dirname(fileURLToPath(import.meta.url)), "..", "..", "test", "fixtures", "models", "cohere_asr");

test.serial("forward agrees with transformers on every instruction set", (t) => {
  const { network } = loadModel(fixture);
  using expected = readExpected(fixture);
  const lengths = maskLengths(expected, "encoder_mask");
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    throughFile(paddedForward(network, expected), (ours) => {
      for (const [name, counted] of [
        ["encoder_last_hidden_state", lengths],
        ["logits", [5, 5]],
      ] as const) {
        t.deepEqual(ours.shape(name), expected.shape(name));
        const [, rows = 0] = ours.shape(name);
        const error = relativeError(ours.values(name) as Float32Array, expected.values(name) as Float32Array, rows, counted);
        t.log(`${name} on ${set}: relative error ${error}`);
        t.true(error < 1e-3, `${name} on ${set}: relative error ${error}`);
      }
      t.deepEqual(ours.values("tokens"), expected.values("tokens"));
    });
  }
});

test("configurations that cannot be honoured are refused by key", (t) => {
  const refuse = (change: object, message: RegExp): void => {
    t.throws(() => describeModel({ model_type: "cohere_asr", ...change } as never, "config.json"), { code: "BAD_CONFIG", message });
  };
  refuse({ hidden_size: 1023 }, /"hidden_size" must be divisible/);
  refuse({ num_key_value_heads: 2 }, /"num_key_value_heads" must equal/);
  refuse({ head_dim: 64 }, /"head_dim" must be hidden_size/);
  refuse({ hidden_act: "tanh" }, /"hidden_act"/);
  refuse({ encoder_config: { conv_kernel_size: 8 } }, /"encoder_config\.conv_kernel_size" must be odd/);
  refuse({ encoder_config: { hidden_act: "gelu" } }, /"encoder_config\.hidden_act"/);
  t.throws(() => cohereFeaturesFrom({ feature_extractor_type: "ParakeetFeatureExtractor" }, "p.json"), {
    code: "BAD_CONFIG",
    message: /feature_extractor_type/,
  });
  t.throws(() => cohereFeaturesFrom({ max_audio_clip_s: null }, "p.json"), {
    code: "BAD_CONFIG",
    message: /p\.json: max_audio_clip_s is 0;/,
  });
});

const folder = temporaryFolder("cohere");
test.after.always(folder.clean);

/** A random model whose tokenizer has the pieces of the prompt. */
function writeModel(name = "model", seed = 1): string {
  const encoder_config = {
    hidden_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 16,
    subsampling_conv_channels: 4,
    num_mel_bins: 16,
  };
  const config = {
    model_type: "cohere_asr",
    vocab_size: 40,
    hidden_size: 16,
    num_hidden_layers: 1,
    num_attention_heads: 2,
    intermediate_size: 16,
    max_position_embeddings: 24,
    eos_token_id: 9,
    encoder_config,
  };
  const windows = { max_audio_clip_s: 1, overlap_chunk_second: 0.4, min_energy_window_samples: 800 };
  const model = writeRandomModel(
    join(folder.path, name),
    config,
    { feature_extractor_type: "CohereAsrFeatureExtractor", feature_size: 16, ...windows },
    { seed },
  );
  const letters = Array.from({ length: 30 }, (_, i) => (i === 0 ? "▁" : String.fromCharCode(96 + i)));
  writeFileSync(join(model, "tokenizer.json"), JSON.stringify(promptedLetters(letters)));
  return model;
}

test("recordings of any length are written window by window, in the language that is named", async (t) => {
  const model = writeModel();
  const recognizer = new Recognizer(loadModel(model), { language: "en" });
  const samples = tones(2.7, 1);
  const speech = recognizer.transcribe(samples);
  t.is(speech.duration, 2.7);
  t.true(speech.tokens.length > 0);
  t.deepEqual(recognizer.transcribeBatch([tones(0.5, 2), samples])[1], speech, "beside another");
  t.deepEqual(await recognizer.transcribeStream([samples.subarray(0, 20000), samples.subarray(20000)]), speech, "in pieces");
  t.throws(() => new Recognizer(loadModel(model)), { code: "INVALID_ARGUMENT", message: /must be told the language; it knows en, de/ });
  t.throws(() => new Recognizer(loadModel(model), { language: "fr" }), { code: "INVALID_ARGUMENT", message: /no language "fr"/ });
  t.throws(() => new Recognizer(loadModel(model), { language: "en", task: "translate" }), {
    code: "INVALID_ARGUMENT",
    message: /no task "translate"/,
  });
  const out = join(folder.path, "packed");
  await compressModel({ model, recipe: roundToNearest("int4+2:4"), manifest: undefined, out });
  t.is(new Recognizer(loadModel(out), { language: "de" }).transcribe(samples).duration, 2.7);
});

test("a service tells it the language, without which there is none", async (t) => {
  const model = writeModel("served", 3);
  await t.throwsAsync(startServer(model), { code: "INVALID_ARGUMENT", message: /must be told the language; it knows en, de/ });
  await using server = await startServer(model, { language: "de", spoolFolder: folder.path });
  const samples = tones(1.4, 3);
  const [expected, other] = ["de", "en"].map(
    (language) => new Recognizer(loadModel(model), { language }).transcribe(asDecoded(samples)).text,
  );
  t.not(expected, other);
  const answer = (await (await post(server, form(wav(samples)))).json()) as { text: string };
  t.is(answer.text, expected as string);
});

test("swish is another name of silu; tokens that generation_config.json suppresses are never said", (t) => {
  const config = parseCohereConfig({ model_type: "cohere_asr", hidden_act: "swish" }, "config.json");
  t.is(config.hidden_act, "silu");
  const generation = parseCohereGeneration({ suppress_tokens: [5], begin_suppress_tokens: [6] }, config, "generation_config.json");
  t.deepEqual([generation.suppressed, generation.suppressedFirst], [[5], [6]]);
});

test("texts may become as long as in transformers, which counts the prompt in max_length", (t) => {
  const config = parseCohereConfig({ model_type: "cohere_asr", max_position_embeddings: 32 }, "config.json");
  const longest = (json: object, own = config): number => parseCohereGeneration(json, own, "g.json").maximumLength(10);
  for (const [keys, length] of [
    [{ max_length: 11 }, 11],
    [{ max_length: 32 }, 32],
    [{ max_length: 100 }, 32],
    [{ max_new_tokens: 1, max_length: 9 }, 11],
    [{ max_new_tokens: 5 }, 15],
    [{ max_new_tokens: 100 }, 32],
    [{ eos_token_id: 3 }, 32],
  ] as const)
    t.is(longest(keys), length, JSON.stringify(keys));
  const old = parseCohereConfig({ model_type: "cohere_asr", max_position_embeddings: 32, max_length: 12 }, "config.json");
  t.is(longest({}, old), 12, "of config.json where there is no generation_config.json");
  t.is(longest({ eos_token_id: 3 }, old), 32);
  t.throws(() => longest({ max_length: 10 }), {
    code: "BAD_CONFIG",
    message: /g\.json: key "max_length" is 10, which leaves no room behind the 10 tokens of the prompt/,
  });
});

test("published names become those of transformers", (t) => {
  const cases = {
    "encoder.pre_encode.conv.3.weight": "model.encoder.subsampling.layers.3.weight",
    "encoder.layers.7.self_attn.linear_pos.weight": "model.encoder.layers.7.self_attn.relative_k_proj.weight",
    "model.encoder.layers.7.conv.batch_norm.running_var": "model.encoder.layers.7.conv.norm.running_var",
    "transf_decoder._decoder.layers.0.second_sub_layer.key_net.bias": "model.decoder.layers.0.encoder_attn.k_proj.bias",
    "transf_decoder._decoder.final_layer_norm.weight": "model.decoder.norm.weight",
    "transf_decoder._decoder.layers.1.layer_norm_3.bias": "model.decoder.layers.1.final_layernorm.bias",
    "log_softmax.mlp.layer0.weight": "proj_out.weight",
    "encoder_decoder_proj.bias": "model.decoder.proj.bias",
  };
  for (const [published, name] of Object.entries(cases)) {
    t.is(cohereName(published), name);
    t.is(cohereName(name), name, "a name of transformers stays");
  }
});

test("the prompt is that of transformers, and its languages are those of the family", (t) => {
  const model = loadModel(writeModel("prompted"));
  const tokenizer = model.textTokenizer as TextTokenizer;
  const prompt = new SequencePrompt((model.network as SequenceToSequenceNetwork).generation, tokenizer);
  const pieces = prompt.ids("de").map((id) => tokenizer.piece(id));
  // get_decoder_prompt_ids of transformers 5.18.
  t.deepEqual(pieces, [
    ...["▁", "<|startofcontext|>", "<|startoftranscript|>", "<|emo:undefined|>", "<|de|>", "<|de|>"],
    ...["<|pnc|>", "<|noitn|>", "<|notimestamp|>", "<|nodiarize|>"],
  ]);
  t.deepEqual([...prompt.languages.keys()], ["en", "de"]); // not <|pnc|>
});

test("what it writes first is what it writes: nothing is drawn, and special tokens are no text", (t) => {
  for (let seed = 1; seed <= 6; seed++) {
    const model = loadModel(writeModel(`greedy-${seed}`, seed));
    const network = model.network as SequenceToSequenceNetwork;
    const tokenizer = model.textTokenizer as TextTokenizer;
    const samples = tones(0.9, 2);
    const prompt = new SequencePrompt(network.generation, tokenizer).ids("en");
    const greedy = tidy(() => {
      const features = model.frontEnd.features(samples);
      const { hidden, offsets } = network.encode(features, new SequenceOffsets([features.dim(0)]));
      using memory = network.remember({ hidden, offsets });
      using session = network.session(memory);
      const request = { item: 0, prompt, endId: 9, maximumLength: network.generation.maximumLength(prompt.length) };
      return writeSequences(network, session, [request])[0]?.tokens ?? [];
    });
    const { text, tokens } = new Recognizer(model, { language: "en" }).transcribe(samples);
    t.deepEqual(
      tokens.map(({ id }) => id),
      greedy,
    );
    t.is(text, tokenizer.decode(greedy).trim());
  }
});

test("texts of windows are joined as their language is written", (t) => {
  const tokenizer = loadModel(writeModel("joined")).textTokenizer as TextTokenizer;
  const joined = (language: string): string => {
    const search = new WindowSearch(tokenizer, { samplingRate: 10, windowSamples: 20, secondsPerFrame: 0.1 } as never, undefined);
    const steps = search.push(new Float32Array(45));
    const a = tokenizer.encode("a").at(-1) as number;
    const segment = { start: 0, end: 2, tokens: [a], logProbabilities: [0] };
    for (let step = steps.next(); !step.done;) step = steps.next({ segments: [segment], advance: 2, language } as never);
    return search.settledText();
  };
  t.deepEqual([joined("en"), joined("ja"), joined("zh")], ["a a", "aa", "aa"]);
});
