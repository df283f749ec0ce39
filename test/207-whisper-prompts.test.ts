/** What Whisper is told before it writes, by its files and by its callers, and where words end that take several tokens a letter. */
import test from "ava";
import { SequencePrompt } from "../lib/models/sequence_prompt.js";
import { parseWhisperConfig, parseWhisperGeneration } from "../lib/models/whisper/whisper_config.js";
import { ByteLevelTokenizer } from "../lib/text/byte_level_tokenizer.js";
import { WindowSearch } from "../lib/transcribe/window_search.js";

/** Printable characters stand for themselves, other bytes for characters from 256 on (GPT-2). */
const isPrintable = (byte: number): boolean => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
const bytes = Array.from({ length: 256 }, (_, byte) => {
  const others = Array.from({ length: byte }, (__, one) => one).filter((one) => !isPrintable(one)).length;
  return String.fromCodePoint(isPrintable(byte) ? byte : 256 + others);
});
const special = ["endoftext", "startoftranscript", "en", "de", "jw", "transcribe", "translate", "nospeech", "notimestamps"];
const pieces = [...bytes, ...special.map((name) => `<|${name}|>`)];
const id = (name: string): number => pieces.indexOf(`<|${name}|>`);
const tokenizer = new ByteLevelTokenizer(pieces, [], new Set(special.map(id)));

const base = { decoder_start_token_id: id("startoftranscript"), eos_token_id: id("endoftext"), no_timestamps_token_id: id("notimestamps") };
const languages = { "<|en|>": id("en"), "<|de|>": id("de"), "<|jw|>": id("jw") };
const several = {
  ...base,
  is_multilingual: true,
  lang_to_id: languages,
  task_to_id: { transcribe: id("transcribe"), translate: id("translate") },
};

function promptOf(generation: object, config: object = {}): SequencePrompt {
  const sizes = { model_type: "whisper", vocab_size: 400, d_model: 16, encoder_attention_heads: 2, decoder_attention_heads: 2 };
  const parsed = parseWhisperConfig({ ...sizes, ...config }, "config.json");
  return new SequencePrompt(parseWhisperGeneration(generation, parsed, "g.json"), tokenizer);
}

/** Where `heard` is the likeliest language. */
function told(prompt: SequencePrompt, { language, task }: { language?: string; task?: string } = {}, heard = "jw"): string[] {
  prompt.check(language, task);
  const listened = prompt.languages.size > 0 ? heard : undefined;
  return prompt.ids(language ?? prompt.language ?? listened, task).map((one) => (pieces[one] as string).slice(2, -2));
}

test("the language and the task of the model's own files hold where callers say nothing, as in transformers", (t) => {
  const start = "startoftranscript";
  for (const [keys, expected] of [
    [{}, [start, "jw", "transcribe"]],
    [{ language: "<|en|>", task: "transcribe" }, [start, "en", "transcribe"]],
    [{ language: "de", task: "translate" }, [start, "de", "translate"]],
    [{ language: "German" }, [start, "de", "transcribe"]],
    [{ task: "translate" }, [start, "jw", "translate"]],
    [
      {
        forced_decoder_ids: [
          [1, id("de")],
          [2, id("translate")],
        ],
      },
      [start, "de", "translate"],
    ],
    [
      {
        forced_decoder_ids: [
          [1, null],
          [2, id("translate")],
        ],
      },
      [start, "jw", "translate"],
    ],
    [
      {
        forced_decoder_ids: [
          [1, id("de")],
          [2, id("transcribe")],
          [3, id("notimestamps")],
        ],
      },
      [start, "de", "transcribe"],
    ],
    [
      {
        language: "en",
        forced_decoder_ids: [
          [1, id("de")],
          [2, id("translate")],
        ],
      },
      [start, "en", "transcribe"],
    ],
  ] as const) {
    const prompt = promptOf({ ...several, ...keys });
    t.deepEqual(told(prompt), expected, JSON.stringify(keys));
    t.deepEqual(told(prompt, { language: "en", task: "transcribe" }), [start, "en", "transcribe"], "callers are heard first");
  }
  t.throws(() => promptOf({ ...several, language: "Klingon" }), { code: "BAD_CONFIG", message: /"language" is "Klingon"; .* en, de, jw/ });
  t.throws(() => promptOf({ ...several, task: "sing" }), { code: "BAD_CONFIG", message: /task/ });
});

test("a model of English alone is told nothing, whatever its tokenizer has tokens for", (t) => {
  const forced = { forced_decoder_ids: [[1, id("notimestamps")]] };
  for (const prompt of [
    promptOf({ ...base, is_multilingual: false }),
    promptOf({ ...base, ...forced, is_multilingual: false, language: "de" }),
    promptOf({ ...base, ...forced }, { vocab_size: 51864 }),
  ]) {
    t.is(prompt.languages.size, 0);
    for (const language of [{}, { language: "en" }]) t.deepEqual(told(prompt, language), ["startoftranscript"]);
    t.throws(() => prompt.check("de", undefined), { code: "INVALID_ARGUMENT", message: /knows English only/ });
    t.throws(() => prompt.check(undefined, "translate"), { code: "INVALID_ARGUMENT", message: /nothing to translate/ });
  }
  // Older files say neither: the tokenizer does.
  t.deepEqual([...promptOf(base).languages.keys()], ["en", "de", "jw"]);
});

test("a word lasts until the last token of its last letter", (t) => {
  const wordsOf = (text: string): readonly (readonly [string, number, number, number])[] => {
    const tokens = [...Buffer.from(text)];
    const last = tokens.length - 1;
    const segment = {
      start: 0,
      end: 10,
      tokens,
      logProbabilities: tokens.map((_, index) => (index === last ? -2 : 0)),
      tokenTimes: [...tokens, 0].map((_, index) => index),
    };
    const search = new WindowSearch(tokenizer, { samplingRate: 10, windowSamples: 300, secondsPerFrame: 0.02 }, undefined);
    for (const steps of [search.push(new Float32Array(100)), search.finish()]) {
      for (let step = steps.next(); !step.done;) step = steps.next({ segments: [segment], advance: 30, language: "fr" });
    }
    return search.hypothesis().words.map(({ word, start, end, confidence }) => [word, start, end, Math.round(1000 * Math.log(confidence))]);
  };
  t.deepEqual(wordsOf("ne va"), [
    ["ne", 0, 2, 0],
    ["va", 3, 5, -1000],
  ]);
  t.deepEqual(wordsOf("va né"), [
    ["va", 0, 2, 0],
    ["né", 3, 6, -667],
  ]);
  t.deepEqual(wordsOf("語 a"), [
    ["語", 0, 3, 0],
    ["a", 4, 5, -2000],
  ]);
  t.deepEqual(wordsOf("日本語"), [["日本語", 0, 9, -222]]);
  t.deepEqual(wordsOf("a😀"), [["a😀", 0, 5, -400]]);
});
