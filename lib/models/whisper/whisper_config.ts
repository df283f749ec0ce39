/** `config.json` and `generation_config.json` of the `whisper` family: keys that change the output are honoured or refused. */
import { z } from "zod";
import { checkedValue } from "../../checkpoint/checked_value.js";
import { UsmLiteError } from "../../errors.js";

const positive = z.number().int().positive().max(1_000_000);
const id = z.number().int().nonnegative();

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
  scale_embedding: z.boolean().default(false),
  max_source_positions: positive.default(1500),
  max_target_positions: positive.default(448),
  tie_word_embeddings: z.boolean().default(true),
  decoder_start_token_id: id.nullish(),
  eos_token_id: id.nullish(),
  suppress_tokens: z.array(id).nullish(),
  begin_suppress_tokens: z.array(id).nullish(),
  forced_decoder_ids: z.array(z.tuple([id, id.nullable()])).nullish(),
});

/** The contents of `config.json`, with defaults filled in. */
export type WhisperConfig = z.infer<typeof configSchema>;

/** @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong */
export function parseWhisperConfig(json: unknown, source: string): WhisperConfig {
  const config = checkedValue(configSchema, json, { source, code: "BAD_CONFIG" });
  for (const key of ["encoder_attention_heads", "decoder_attention_heads"] as const) {
    if (config.d_model % config[key] !== 0) throw new UsmLiteError("BAD_CONFIG", `${source}: key "d_model" must be divisible by ${key}, ${config[key]}`);
  }
  return config;
}

const generationSchema = z.looseObject({
  decoder_start_token_id: id.nullish(),
  eos_token_id: z.union([id, z.tuple([id])]).nullish(),
  suppress_tokens: z.array(id).nullish(),
  begin_suppress_tokens: z.array(id).nullish(),
  forced_decoder_ids: z.array(z.tuple([id, id.nullable()])).nullish(),
  no_timestamps_token_id: id.nullish(),
  max_initial_timestamp_index: id.nullish(),
  max_length: positive.nullish(),
  is_multilingual: z.boolean().nullish(),
  lang_to_id: z.record(z.string(), id).nullish(),
  task_to_id: z.record(z.string(), id).nullish(),
  num_beams: positive.nullish(),
});

/** What decoding needs to know besides the network. */
export interface WhisperGeneration {
  /** `<|startoftranscript|>` */
  readonly startId: number;
  /** `<|endoftext|>` */
  readonly endId: number;
  /** Never said. */
  readonly suppressed: readonly number[];
  /** Never said first. */
  readonly suppressedFirst: readonly number[];
  /** Follows the start unless times are wanted; the ids after it are times, 0.02 s apart. Undefined: the model knows no times. */
  readonly noTimestampsId: number | undefined;
  /** Latest first time, as an index of times. */
  readonly latestFirstTime: number | undefined;
  /** Most tokens of a window, prompt included. */
  readonly maximumLength: number;
  /** By code, such as "en"; empty for an English-only model. */
  readonly languages: ReadonlyMap<string, number>;
  /** By name: "transcribe" and "translate". */
  readonly tasks: ReadonlyMap<string, number>;
  /** Ids at positions after the start that older configurations prescribe. */
  readonly forced: ReadonlyMap<number, number>;
  /** Hypotheses that the model asks for; 1 is greedy. */
  readonly beams: number;
}

/** Keys that would change the output, with the values that do not. */
const neutral: Readonly<Record<string, readonly unknown[]>> = {
  repetition_penalty: [1, null],
  no_repeat_ngram_size: [0, null],
  encoder_no_repeat_ngram_size: [0, null],
  encoder_repetition_penalty: [1, null],
  length_penalty: [1, null],
  bad_words_ids: [null],
  sequence_bias: [null],
  min_length: [0, null],
  min_new_tokens: [0, null],
  do_sample: [false, null],
  num_beam_groups: [1, null],
  penalty_alpha: [null],
  exponential_decay_length_penalty: [null],
};

/**
 * @param json the parsed `generation_config.json`, empty where there is none
 * @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong
 */
export function parseWhisperGeneration(json: object, config: WhisperConfig, source: string): WhisperGeneration {
  const generation = checkedValue(generationSchema, json, { source, code: "BAD_CONFIG" });
  for (const [key, values] of Object.entries(neutral)) {
    const value = generation[key];
    if (value !== undefined && !values.includes(value)) {
      throw new UsmLiteError("BAD_CONFIG", `${source}: key "${key}" is ${JSON.stringify(value)}, which is not supported; ${JSON.stringify(values[0])} is`);
    }
  }
  const [endId] = [generation.eos_token_id ?? config.eos_token_id ?? 50257].flat() as [number];
  const startId = generation.decoder_start_token_id ?? config.decoder_start_token_id ?? 50258;
  const forced = generation.forced_decoder_ids ?? config.forced_decoder_ids ?? [];
  for (const [name, value] of [["decoder_start_token_id", startId], ["eos_token_id", endId]] as const) {
    if (value >= config.vocab_size) throw new UsmLiteError("BAD_CONFIG", `${source}: key "${name}" must be below vocab_size, ${config.vocab_size}`);
  }
  return {
    startId,
    endId,
    suppressed: generation.suppress_tokens ?? config.suppress_tokens ?? [],
    suppressedFirst: generation.begin_suppress_tokens ?? config.begin_suppress_tokens ?? [],
    noTimestampsId: generation.no_timestamps_token_id ?? undefined,
    latestFirstTime: generation.max_initial_timestamp_index ?? undefined,
    maximumLength: Math.min(generation.max_length ?? config.max_target_positions, config.max_target_positions),
    languages: new Map(Object.entries(generation.lang_to_id ?? {}).map(([name, value]) => [name.replace(/^<\|(.*)\|>$/, "$1"), value])),
    tasks: new Map(Object.entries(generation.task_to_id ?? {})),
    forced: new Map(forced.flatMap(([position, value]) => (value === null ? [] : [[position, value] as const]))),
    beams: generation.num_beams ?? 1,
  };
}
