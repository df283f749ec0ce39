/** `config.json` of the `wav2vec2-bert` family with a CTC head: keys that change the output are honoured or refused. */
import { z } from "zod";
import { checkedValue } from "../../checkpoint/checked_value.js";
import { UsmLiteError } from "../../errors.js";
import { adapterLayers, outputSize } from "../wav2vec2/wav2vec2_config.js";

const positive = z.number().int().positive().max(1_000_000);
/** Frames; a table of positions has so many rows. */
const reach = z.number().int().nonnegative().max(10_000);
const activation = z.enum(["gelu", "relu", "silu", "swish"]).transform((name) => (name === "swish" ? "silu" : name));

const configSchema = z.looseObject({
  model_type: z.literal("wav2vec2-bert"),
  architectures: z.array(z.string()).nullish(),
  vocab_size: positive,
  pad_token_id: z.number().int().nonnegative().default(0),
  ctc_loss_reduction: z.enum(["mean", "sum"]).default("sum"),
  ctc_zero_infinity: z.boolean().default(false),
  feature_projection_input_dim: positive.default(160),
  hidden_size: positive.default(1024),
  num_hidden_layers: positive.default(24),
  num_attention_heads: positive.default(16),
  intermediate_size: positive.default(4096),
  hidden_act: activation.default("silu"),
  layer_norm_eps: z.number().positive().max(1).default(1e-5),
  conv_depthwise_kernel_size: positive.default(31),
  position_embeddings_type: z.enum(["relative_key", "relative", "rotary"]).nullable().default("relative_key"),
  rotary_embedding_base: z.number().positive().default(10_000),
  left_max_position_embeddings: reach.default(64),
  right_max_position_embeddings: reach.default(8),
  use_intermediate_ffn_before_adapter: z.boolean().default(false),
  add_adapter: z.boolean().default(false),
  num_adapter_layers: z.number().int().nonnegative().max(100).default(1),
  adapter_kernel_size: positive.default(3),
  adapter_stride: positive.default(2),
  adapter_act: activation.default("relu"),
  output_hidden_size: positive.nullish(),
});

/** The contents of `config.json`, with defaults filled in; `pad_token_id` is the CTC blank. */
export type Wav2Vec2BertConfig = z.infer<typeof configSchema>;

/** @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong */
export function parseWav2Vec2BertConfig(json: unknown, source: string): Wav2Vec2BertConfig {
  const config = checkedValue(configSchema, json, { source, code: "BAD_CONFIG" });
  const refuse = (key: string, sentence: string): never => {
    throw new UsmLiteError("BAD_CONFIG", `${source}: key "${key}" ${sentence}`);
  };
  const { num_attention_heads: heads, hidden_size: hidden, adapter_kernel_size: kernel, adapter_stride: stride } = config;
  const [architecture] = config.architectures ?? [];
  if (architecture !== undefined && !architecture.endsWith("ForCTC")) {
    refuse("architectures", `is ${architecture}; only models with a CTC head (ForCTC) give text`);
  }
  if (config.pad_token_id >= config.vocab_size)
    refuse("pad_token_id", `must be below vocab_size, ${config.vocab_size}: it is the CTC blank`);
  if (hidden % heads !== 0) refuse("hidden_size", `must be divisible by num_attention_heads, ${heads}`);
  if (config.position_embeddings_type === "rotary" && (hidden / heads) % 2 !== 0)
    refuse("num_attention_heads", "must give heads of an even size");
  if (config.conv_depthwise_kernel_size % 2 === 0) refuse("conv_depthwise_kernel_size", "must be odd");
  if (config.add_adapter) {
    if (outputSize(config) % heads !== 0) refuse("output_hidden_size", `must be divisible by num_attention_heads, ${heads}`);
    // Half a stride of zeros lies around the frames; transformers counts hidden frames as if it were half a kernel.
    const fitting = 2 * adapterPadding(config) + 1;
    if (kernel !== fitting) refuse("adapter_kernel_size", `is ${kernel}; with adapter_stride ${stride} it must be ${fitting}`);
  } else if (config.use_intermediate_ffn_before_adapter) {
    refuse("use_intermediate_ffn_before_adapter", "is true; it belongs to models with add_adapter");
  }
  return config;
}

/** Frames of features per hidden frame. */
export const framesPerHiddenFrame = (config: Wav2Vec2BertConfig): number => config.adapter_stride ** adapterLayers(config);

/** Zeros before and behind a sequence that a convolution of the adapter sees. */
export const adapterPadding = ({ adapter_stride }: Wav2Vec2BertConfig): number => Math.floor(adapter_stride / 2);

/** Frames that a layer of the adapter makes of `frames`. */
export const shortenedLength = (frames: number, { adapter_stride }: Wav2Vec2BertConfig): number => Math.ceil(frames / adapter_stride);
