/** `config.json` of the `lasr_ctc` family: every key that changes the output is honoured or refused. */
import { z } from "zod";
import { checkedValue } from "../../checkpoint/checked_value.js";
import { UsmLiteError } from "../../errors.js";

const positive = z.number().int().positive().max(1_000_000);
const probability = z.number().min(0).max(1);
const factor = z.number().min(-1000).max(1000);
const pair = z.tuple([factor, factor]);

/**
 * `encoder_config`. Keys that describe the file rather than the network are let through by looseObject and kept when
 * saving.
 */
export const encoderSchema = z.looseObject({
  model_type: z.literal("lasr_encoder").default("lasr_encoder"),
  hidden_size: positive.default(512),
  num_hidden_layers: positive.default(17),
  num_attention_heads: positive.default(8),
  num_key_value_heads: positive.optional(),
  head_dim: positive.optional(),
  intermediate_size: positive.default(2048),
  hidden_act: z.literal(["silu", "swish"]).default("silu"),
  attention_bias: z.boolean().default(false),
  convolution_bias: z.boolean().default(false),
  conv_kernel_size: positive.default(32),
  subsampling_conv_channels: positive.default(256),
  subsampling_conv_kernel_size: positive.default(5),
  subsampling_conv_stride: positive.default(2),
  num_mel_bins: positive.default(128),
  dropout: probability.default(0.1),
  dropout_positions: probability.default(0),
  layerdrop: probability.default(0.1),
  activation_dropout: probability.default(0.1),
  attention_dropout: probability.default(0.1),
  max_position_embeddings: positive.default(10_000),
  initializer_range: z.number().positive().default(0.02),
  layer_norm_eps: z.number().positive().max(1).default(1e-6),
  feed_forward_residual_weights: pair.default([1.5, 0.5]),
  conv_residual_weights: pair.default([2, 1]),
  batch_norm_momentum: z.number().min(0).max(1).default(0.01),
  rope_parameters: z
    .looseObject({ rope_type: z.literal("default").default("default"), rope_theta: z.number().positive().default(10_000) })
    .nullish(),
});

const configSchema = z.looseObject({
  model_type: z.literal("lasr_ctc"),
  architectures: z.array(z.string()).default(["LasrForCTC"]),
  vocab_size: positive.default(512),
  pad_token_id: z.number().int().nonnegative().default(0),
  ctc_loss_reduction: z.enum(["mean", "sum"]).default("mean"),
  ctc_zero_infinity: z.boolean().default(true),
  encoder_config: encoderSchema.prefault({}),
});

/** The contents of `config.json`, with defaults filled in. `pad_token_id` is the CTC blank. */
export type LasrConfig = z.infer<typeof configSchema>;
export type LasrEncoderConfig = LasrConfig["encoder_config"];

/**
 * Checks the parsed content of a `config.json` of the `lasr_ctc` family and fills in the defaults of transformers.
 * @param source name of the file, for error messages
 * @throws UsmLiteError BAD_CONFIG naming the key that is wrong
 *
 * @example
 * const config = parseLasrConfig(JSON.parse(readFileSync("float/config.json", "utf8")), "float/config.json");
 */
export function parseLasrConfig(json: unknown, source: string): LasrConfig {
  const config = checkedValue(configSchema, json, { source, code: "BAD_CONFIG" });
  const encoder = config.encoder_config;
  const refuse = (key: string, sentence: string): never => {
    throw new UsmLiteError("BAD_CONFIG", `${source}: key "${key}" ${sentence}`);
  };
  if (encoder.num_key_value_heads !== undefined && encoder.num_key_value_heads !== encoder.num_attention_heads) {
    refuse("encoder_config.num_key_value_heads", "must equal num_attention_heads in this family");
  }
  if (encoder.head_dim === undefined && encoder.hidden_size % encoder.num_attention_heads !== 0) {
    refuse("encoder_config.hidden_size", `must be divisible by num_attention_heads, ${encoder.num_attention_heads}`);
  }
  if (headDimension(encoder) % 2 !== 0) {
    refuse("encoder_config.num_attention_heads", "must give heads of an even size: rotary positions turn pairs");
  }
  if (encoder.dropout_positions !== 0) {
    refuse("encoder_config.dropout_positions", "must be 0: dropout of rotary positions is not supported");
  }
  if (config.pad_token_id >= config.vocab_size) {
    refuse("pad_token_id", `must be below vocab_size, ${config.vocab_size}: it is the CTC blank`);
  }
  return config;
}

/** Features of one attention head. */
export const headDimension = (encoder: LasrEncoderConfig): number => encoder.head_dim ?? encoder.hidden_size / encoder.num_attention_heads;

/**
 * The text of `config.json`. transformers checks types strictly: where it wants floats, a whole number such as 2 must be
 * written 2.0, which JSON.stringify does not do.
 */
export function formatLasrConfig(config: LasrConfig | Readonly<Record<string, unknown>>): string {
  const floats = ["feed_forward_residual_weights", "conv_residual_weights", "batch_norm_momentum", "layer_norm_eps"];
  const text = JSON.stringify(config, null, 2);
  const values = new RegExp(`("(?:${floats.join("|")})": )(\\[[^\\]]*\\]|[^,\\n]+)`, "g");
  return `${text.replace(values, (_, key: string, value: string) => key + value.replace(/(?<![\d.e-])\d+(?![\d.e])/g, "$&.0"))}\n`;
}
