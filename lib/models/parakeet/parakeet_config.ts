/** `config.json` of the `parakeet_ctc`, `parakeet_rnnt` and `parakeet_tdt` families: keys that change the output are honoured or refused. */
import { z } from "zod";
import { checkedValue } from "../../checkpoint/checked_value.js";
import { UsmLiteError } from "../../errors.js";
import { checkGenerationKeys } from "../sequence_generation.js";

const positive = z.number().int().positive().max(1_000_000);
const id = z.number().int().nonnegative();
/** Frames; a table of positions has so many rows. */
const reach = z.number().int().nonnegative().max(10_000);

/** `encoder_config` of this family and of those that share its encoder. */
export const parakeetEncoderSchema = z.looseObject({
  model_type: z.literal("parakeet_encoder").default("parakeet_encoder"),
  hidden_size: positive.default(1024),
  num_hidden_layers: positive.default(24),
  num_attention_heads: positive.default(8),
  num_key_value_heads: positive.optional(),
  head_dim: positive.optional(),
  intermediate_size: positive.default(4096),
  hidden_act: z.literal(["silu", "swish"]).default("silu"),
  attention_bias: z.boolean().default(true),
  convolution_bias: z.boolean().default(true),
  conv_kernel_size: positive.default(9),
  subsampling_factor: z.literal([2, 4, 8, 16, 32]).default(8),
  subsampling_conv_channels: positive.default(256),
  subsampling_conv_kernel_size: z.literal(3).default(3),
  subsampling_conv_stride: z.literal(2).default(2),
  num_mel_bins: positive.default(80),
  scale_input: z.boolean().default(true),
  attention_type: z.enum(["rel_pos", "rel_pos_local_attn"]).default("rel_pos"),
  attention_context_size: z.tuple([reach, reach]).nullish(),
});

const ctcSchema = z.looseObject({
  model_type: z.literal("parakeet_ctc"),
  vocab_size: positive.default(1025),
  pad_token_id: id.default(1024),
  ctc_loss_reduction: z.enum(["mean", "sum"]).default("mean"),
  ctc_zero_infinity: z.boolean().default(true),
  encoder_config: parakeetEncoderSchema.prefault({}),
});

const transducerSchema = z.looseObject({
  model_type: z.literal(["parakeet_rnnt", "parakeet_tdt"]),
  vocab_size: positive,
  blank_token_id: id,
  pad_token_id: id.nullish(),
  decoder_hidden_size: positive.default(640),
  num_decoder_layers: positive.default(2),
  hidden_act: z.literal("relu").default("relu"),
  max_symbols_per_step: positive.default(10),
  durations: z.array(z.number().int().nonnegative().max(1000)).optional(),
  encoder_config: parakeetEncoderSchema.prefault({}),
});

export type ParakeetEncoderConfig = z.infer<typeof parakeetEncoderSchema>;
/** The contents of `config.json` with defaults filled in; `pad_token_id` is the CTC blank. */
export type ParakeetCtcConfig = z.infer<typeof ctcSchema>;
/** The contents of `config.json` with defaults filled in; `durations` is empty but for `parakeet_tdt`. */
export type ParakeetTransducerConfig = z.infer<typeof transducerSchema> & { readonly durations: readonly number[] };

/** @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong */
export function parseParakeetCtcConfig(json: unknown, source: string): ParakeetCtcConfig {
  const config = checkedValue(ctcSchema, json, { source, code: "BAD_CONFIG" });
  checkParakeetEncoder(config.encoder_config, source);
  checkBlank("pad_token_id", config.pad_token_id, config.vocab_size, source);
  return config;
}

/** @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong */
export function parseParakeetTransducerConfig(json: unknown, source: string): ParakeetTransducerConfig {
  const config = checkedValue(transducerSchema, json, { source, code: "BAD_CONFIG" });
  checkParakeetEncoder(config.encoder_config, source);
  checkBlank("blank_token_id", config.blank_token_id, config.vocab_size, source);
  const durations = config.model_type === "parakeet_tdt" ? (config.durations ?? [0, 1, 2, 3, 4]) : [];
  if (config.model_type === "parakeet_tdt" && !durations.some((duration) => duration > 0)) {
    throw new UsmLiteError("BAD_CONFIG", `${source}: key "durations" is [${durations.join(", ")}]; one of them must be above 0`);
  }
  return { ...config, durations };
}

const generationSchema = z.looseObject({ decoder_start_token_id: id.nullish(), suppress_tokens: z.array(id).nullish() });

/**
 * Refuses what would make greedy decoding give other tokens.
 * @param json the parsed `generation_config.json`, empty where there is none
 * @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong
 */
export function checkParakeetGeneration(json: object, config: ParakeetTransducerConfig, source: string): void {
  const {
    decoder_start_token_id: start,
    suppress_tokens: suppressed,
    ...others
  } = checkedValue(generationSchema, json, { source, code: "BAD_CONFIG" });
  checkGenerationKeys(others, source);
  if (start !== undefined && start !== null && start !== config.blank_token_id) {
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${source}: key "decoder_start_token_id" is ${start}; it must be the blank, ${config.blank_token_id}`,
    );
  }
  // Ids behind the vocabulary are durations, which are no tokens anyway.
  const token = suppressed?.find((suppressedId) => suppressedId < config.vocab_size);
  if (token === undefined) return;
  throw new UsmLiteError(
    "BAD_CONFIG",
    `${source}: key "suppress_tokens" names the token ${token}; leaving out tokens is not supported in this family`,
  );
}

function checkBlank(key: string, blank: number, size: number, source: string): void {
  if (blank < size) return;
  throw new UsmLiteError("BAD_CONFIG", `${source}: key "${key}" must be below vocab_size, ${size}: it is the blank`);
}

/** @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong */
export function checkParakeetEncoder(encoder: ParakeetEncoderConfig, source: string): void {
  const refuse = (key: string, sentence: string): never => {
    throw new UsmLiteError("BAD_CONFIG", `${source}: key "encoder_config.${key}" ${sentence}`);
  };
  const { num_attention_heads: heads, num_key_value_heads: keyValueHeads = heads } = encoder;
  if (encoder.head_dim === undefined && encoder.hidden_size % heads !== 0)
    refuse("hidden_size", `must be divisible by num_attention_heads, ${heads}`);
  if (heads % keyValueHeads !== 0) refuse("num_key_value_heads", `must divide num_attention_heads, ${heads}`);
  if (encoder.conv_kernel_size % 2 === 0) refuse("conv_kernel_size", "must be odd");
  if (encoder.attention_type === "rel_pos_local_attn" && !encoder.attention_context_size) {
    refuse("attention_context_size", "must be [left, right] with attention_type rel_pos_local_attn");
  }
  if (encoder.num_mel_bins % encoder.subsampling_factor !== 0) {
    refuse("num_mel_bins", `must be a multiple of subsampling_factor, ${encoder.subsampling_factor}`);
  }
}

/** Frames before and after a frame that it sees; undefined: all. */
export const attentionContext = (encoder: ParakeetEncoderConfig): readonly [number, number] | undefined =>
  encoder.attention_type === "rel_pos_local_attn" ? (encoder.attention_context_size as [number, number]) : undefined;
