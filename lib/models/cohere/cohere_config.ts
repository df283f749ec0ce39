/** `config.json` and `generation_config.json` of the `cohere_asr` family: keys that change the output are honoured or refused. */
import { z } from "zod";
import { checkedValue } from "../../checkpoint/checked_value.js";
import { UsmLiteError } from "../../errors.js";
import { checkParakeetEncoder, parakeetEncoderSchema, type ParakeetEncoderConfig } from "../parakeet/parakeet_config.js";
import { checkGenerationKeys, lengthKeys, maximumLengthOf, type SequenceGeneration } from "../sequence_generation.js";

const positive = z.number().int().positive().max(1_000_000);
const id = z.number().int().nonnegative();

const configSchema = z.object({
  model_type: z.literal("cohere_asr"),
  vocab_size: positive.default(16384),
  hidden_size: positive.default(1024),
  num_hidden_layers: positive.default(8),
  num_attention_heads: positive.default(8),
  num_key_value_heads: positive.nullish(),
  head_dim: positive.nullish(),
  intermediate_size: positive.default(4096),
  hidden_act: z
    .enum(["relu", "gelu", "silu", "swish"])
    .default("relu")
    .transform((name) => (name === "swish" ? "silu" : name)),
  max_position_embeddings: positive.default(1024),
  attention_bias: z.boolean().default(true),
  tie_word_embeddings: z.boolean().default(false),
  eos_token_id: id.nullish(),
  bos_token_id: id.nullish(),
  decoder_start_token_id: id.nullish(),
  encoder_config: z.record(z.string(), z.unknown()).nullish(),
  ...lengthKeys,
});

/** What the encoder is unless the file says otherwise: not what Parakeet's is. */
const encoderDefaults = { hidden_size: 1280, num_hidden_layers: 48, intermediate_size: 5120, num_mel_bins: 128, scale_input: false };

/** The contents of `config.json`, with defaults filled in. */
export type CohereConfig = Omit<z.infer<typeof configSchema>, "encoder_config"> & { readonly encoder_config: ParakeetEncoderConfig };

/** @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong */
export function parseCohereConfig(json: unknown, source: string): CohereConfig {
  const config = checkedValue(configSchema, json, { source, code: "BAD_CONFIG" });
  const refuse = (key: string, sentence: string): never => {
    throw new UsmLiteError("BAD_CONFIG", `${source}: key "${key}" ${sentence}`);
  };
  const { hidden_size: hidden, num_attention_heads: heads } = config;
  if (hidden % heads !== 0) refuse("hidden_size", `must be divisible by num_attention_heads, ${heads}`);
  if ((config.num_key_value_heads ?? heads) !== heads) refuse("num_key_value_heads", `must equal num_attention_heads, ${heads}`);
  if ((config.head_dim ?? hidden / heads) !== hidden / heads)
    refuse("head_dim", `must be hidden_size / num_attention_heads, ${hidden / heads}`);
  const encoder = checkedValue(
    parakeetEncoderSchema,
    { ...encoderDefaults, ...config.encoder_config },
    { source, code: "BAD_CONFIG", key: "encoder_config" },
  );
  checkParakeetEncoder(encoder, source);
  return { ...config, encoder_config: encoder };
}

const generationSchema = z.looseObject({
  decoder_start_token_id: id.nullish(),
  eos_token_id: z.union([id, z.tuple([id])]).nullish(),
  suppress_tokens: z.array(id).nullish(),
  begin_suppress_tokens: z.array(id).nullish(),
  ...lengthKeys,
  num_beams: positive.nullish(),
});

/**
 * @param json the parsed `generation_config.json`, empty where there is none
 * @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong
 */
export function parseCohereGeneration(json: object, config: CohereConfig, source: string): SequenceGeneration {
  const generation = checkedValue(generationSchema, json, { source, code: "BAD_CONFIG" });
  checkGenerationKeys(generation, source);
  const { max_position_embeddings: positions } = config;
  // transformers looks for them in config.json where there is no other file alone.
  const [lengths, place] = Object.keys(json).length > 0 ? [generation, source] : [config, source.replace("generation_", "")];
  const promptLength = promptPieces("en").length;
  if (!lengths.max_new_tokens && lengths.max_length && lengths.max_length <= promptLength) {
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${place}: key "max_length" is ${lengths.max_length}, which leaves no room behind the ${promptLength} tokens of the prompt`,
    );
  }
  const [endId] = [generation.eos_token_id ?? config.eos_token_id ?? 3].flat() as [number];
  return {
    startId: generation.decoder_start_token_id ?? config.decoder_start_token_id ?? config.bos_token_id ?? 4,
    endId,
    suppressed: generation.suppress_tokens ?? [],
    suppressedFirst: generation.begin_suppress_tokens ?? [],
    noTimestampsId: undefined,
    latestFirstTime: undefined,
    positions,
    maximumLength: maximumLengthOf(lengths, positions, (maximum) => maximum),
    languages: new Map(),
    tasks: new Map(),
    forced: new Map(),
    beams: generation.num_beams ?? 1,
    promptPieces,
    languageCodes,
  };
}

const languageCodes = ["ar", "de", "el", "en", "es", "fr", "it", "ja", "ko", "nl", "pl", "pt", "vi", "zh"];

/** transformers, models/cohere_asr/processing_cohere_asr.py, get_decoder_prompt_ids, with punctuation. */
const promptPieces = (language: string): readonly string[] => [
  "▁",
  "<|startofcontext|>",
  "<|startoftranscript|>",
  "<|emo:undefined|>",
  `<|${language}|>`,
  `<|${language}|>`,
  "<|pnc|>",
  "<|noitn|>",
  "<|notimestamp|>",
  "<|nodiarize|>",
];
