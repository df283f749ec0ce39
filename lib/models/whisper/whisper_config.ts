/** `config.json` and `generation_config.json` of the `whisper` family: keys that change the output are honoured or refused. */
import { z } from "zod";
import { checkedValue } from "../../checkpoint/checked_value.js";
import { UsmLiteError } from "../../errors.js";
import { checkGenerationKeys, lengthKeys, maximumLengthOf, type SequenceGeneration } from "../sequence_generation.js";

const positive = z.number().int().positive().max(1_000_000);
const id = z.number().int().nonnegative();
const endIds = z.union([id, z.tuple([id])]);

const configSchema = z.looseObject({
  model_type: z.literal("whisper"),
  vocab_size: positive.default(51865),
  num_mel_bins: positive.default(80),
  d_model: positive.default(384),
  encoder_layers: positive.default(4),
  encoder_attention_heads: positive.default(6),
  encoder_ffn_dim: positive.default(1536),
  decoder_layers: positive.default(4),
  decoder_attention_heads: positive.default(6),
  decoder_ffn_dim: positive.default(1536),
  activation_function: z
    .enum(["gelu", "relu", "silu", "swish"])
    .default("gelu")
    .transform((name) => (name === "swish" ? "silu" : name)),
  max_source_positions: positive.default(1500),
  max_target_positions: positive.default(448),
  tie_word_embeddings: z.boolean().default(true),
  decoder_start_token_id: id.nullish(),
  eos_token_id: endIds.nullish(),
  suppress_tokens: z.array(id).nullish(),
  begin_suppress_tokens: z.array(id).nullable().default([220, 50256]),
  ...lengthKeys,
  forced_decoder_ids: z.array(z.tuple([id, id.nullable()])).nullish(),
  median_filter_width: positive
    .max(99)
    .refine((width) => width % 2 === 1, "must be odd")
    .default(7),
});

/** The contents of `config.json`, with defaults filled in. */
export type WhisperConfig = z.infer<typeof configSchema>;

/** @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong */
export function parseWhisperConfig(json: unknown, source: string): WhisperConfig {
  const config = checkedValue(configSchema, json, { source, code: "BAD_CONFIG" });
  for (const key of ["encoder_attention_heads", "decoder_attention_heads"] as const) {
    if (config.d_model % config[key] !== 0)
      throw new UsmLiteError("BAD_CONFIG", `${source}: key "d_model" must be divisible by ${key}, ${config[key]}`);
  }
  return config;
}

const generationSchema = z.looseObject({
  decoder_start_token_id: id.nullish(),
  eos_token_id: endIds.nullish(),
  suppress_tokens: z.array(id).nullish(),
  begin_suppress_tokens: z.array(id).nullish(),
  forced_decoder_ids: z.array(z.tuple([id, id.nullable()])).nullish(),
  no_timestamps_token_id: id.nullish(),
  max_initial_timestamp_index: id.nullish(),
  ...lengthKeys,
  is_multilingual: z.boolean().nullish(),
  lang_to_id: z.record(z.string(), id).nullish(),
  task_to_id: z.record(z.string(), id).nullish(),
  language: z.string().nullish(),
  task: z.enum(["transcribe", "translate"]).nullish(),
  num_beams: positive.nullish(),
  alignment_heads: z
    .array(z.tuple([id, id]))
    .min(1)
    .nullish(),
});

/**
 * @param json the parsed `generation_config.json`, empty where there is none
 * @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong
 */
export function parseWhisperGeneration(json: object, config: WhisperConfig, source: string): SequenceGeneration {
  const generation = checkedValue(generationSchema, json, { source, code: "BAD_CONFIG" });
  checkGenerationKeys(generation, source);
  const [endId] = [generation.eos_token_id ?? config.eos_token_id ?? 50256].flat() as [number];
  const startId = generation.decoder_start_token_id ?? config.decoder_start_token_id ?? 50257;
  const forced = generation.forced_decoder_ids ?? config.forced_decoder_ids ?? [];
  for (const [name, value] of [
    ["decoder_start_token_id", startId],
    ["eos_token_id", endId],
  ] as const) {
    if (value >= config.vocab_size)
      throw new UsmLiteError("BAD_CONFIG", `${source}: key "${name}" must be below vocab_size, ${config.vocab_size}`);
  }
  const alignmentHeads = generation.alignment_heads ?? upperHalf(config);
  const noHead = alignmentHeads.find(([layer, head]) => layer >= config.decoder_layers || head >= config.decoder_attention_heads);
  if (noHead) {
    const sizes = `${config.decoder_layers} layers of ${config.decoder_attention_heads} heads`;
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${source}: key "alignment_heads" names layer ${noHead[0]}, head ${noHead[1]}; the decoder has ${sizes}`,
    );
  }
  // Where there is a generation_config.json, transformers looks for these nowhere else.
  const decoding = Object.keys(json).length > 0 ? generation : config;
  const { max_target_positions: positions } = config;
  const languages = new Map(Object.entries(generation.lang_to_id ?? {}).map(([name, value]) => [codeIn(name), value]));
  // The originals say so by their size; the tokenizers of English models have the tokens of all languages, too.
  const english = !(generation.is_multilingual ?? (languages.size > 0 || config.vocab_size !== englishVocabularySize));
  const { language, task } = english ? {} : generation;
  return {
    startId,
    endId,
    suppressed: decoding.suppress_tokens ?? [],
    suppressedFirst: decoding.begin_suppress_tokens ?? [],
    noTimestampsId: generation.no_timestamps_token_id ?? undefined,
    latestFirstTime: generation.max_initial_timestamp_index ?? undefined,
    positions,
    // transformers, models/whisper/generation_whisper.py, _set_max_new_tokens_and_length: the prompt is not counted, up to half of the places.
    maximumLength: maximumLengthOf(decoding, positions, (maximum, prompt) => maximum + Math.min(prompt, (positions >> 1) - 1)),
    languages: english ? new Map<string, number>() : languages,
    english,
    ...(language ? { language: languageCode(language, languages, source) } : {}),
    ...(task ? { task } : {}),
    tasks: new Map(Object.entries(generation.task_to_id ?? {})),
    forced: new Map(forced.flatMap(([position, value]) => (value === null ? [] : [[position, value] as const]))),
    beams: generation.num_beams ?? 1,
    alignment: { heads: alignmentHeads, headsPerLayer: config.decoder_attention_heads, filterWidth: config.median_filter_width },
  };
}

const englishVocabularySize = 51864;

const codeIn = (token: string): string => token.replace(/^<\|(.*)\|>$/, "$1");

/** @param language a token, a code or, as transformers takes them too, an English name */
function languageCode(language: string, known: ReadonlyMap<string, number>, source: string): string {
  const said = codeIn(language.toLowerCase());
  const names = new Intl.DisplayNames(["en"], { type: "language" });
  const code = [...known.keys()].find((one) => one === said || names.of(one)?.toLowerCase() === said);
  if (code !== undefined || (known.size === 0 && /^[a-z]{2,3}$/.test(said))) return code ?? said;
  throw new UsmLiteError("BAD_CONFIG", `${source}: key "language" is "${language}"; the model knows ${[...known.keys()].join(", ")}`);
}

/** All heads of the upper half of the decoder: what the original takes for a model whose best heads are not known. */
function upperHalf({ decoder_layers: layers, decoder_attention_heads: heads }: WhisperConfig): [number, number][] {
  const first = layers >> 1;
  return Array.from({ length: (layers - first) * heads }, (_, index) => [first + Math.floor(index / heads), index % heads]);
}
