/** `config.json` of the `wav2vec2`, `hubert` and `wav2vec2-conformer` families with a CTC head: keys that change the output are honoured or refused. */
import { z } from "zod";
import { checkedValue } from "../../checkpoint/checked_value.js";
import { UsmLiteError } from "../../errors.js";

const positive = z.number().int().positive().max(1_000_000);
const activation = z
  .enum(["gelu", "relu", "silu", "swish"])
  .default("gelu")
  .transform((name) => (name === "swish" ? "silu" : name));

const configSchema = z.looseObject({
  model_type: z.literal(["wav2vec2", "hubert", "wav2vec2-conformer"]),
  architectures: z.array(z.string()).nullish(),
  vocab_size: positive.default(32),
  pad_token_id: z.number().int().nonnegative().default(0),
  ctc_loss_reduction: z.enum(["mean", "sum"]).default("sum"),
  ctc_zero_infinity: z.boolean().default(false),
  hidden_size: positive.default(768),
  num_hidden_layers: positive.default(12),
  num_attention_heads: positive.default(12),
  intermediate_size: positive.default(3072),
  hidden_act: activation,
  layer_norm_eps: z.number().positive().max(1).default(1e-5),
  feat_extract_norm: z.enum(["group", "layer"]).default("group"),
  feat_extract_activation: activation,
  conv_dim: z.array(positive).default([512, 512, 512, 512, 512, 512, 512]),
  conv_stride: z.array(positive).default([5, 2, 2, 2, 2, 2, 2]),
  conv_kernel: z.array(positive).default([10, 3, 3, 3, 3, 2, 2]),
  conv_bias: z.boolean().default(false),
  num_conv_pos_embeddings: positive.default(128),
  num_conv_pos_embedding_groups: positive.default(16),
  do_stable_layer_norm: z.boolean().default(false),
  feat_proj_layer_norm: z.boolean().default(true),
  conv_pos_batch_norm: z.boolean().default(false),
  add_adapter: z.boolean().default(false),
  num_adapter_layers: z.number().int().nonnegative().max(100).default(3),
  adapter_kernel_size: positive.default(3),
  adapter_stride: positive.default(2),
  output_hidden_size: positive.nullish(),
  adapter_attn_dim: positive.nullish(),
  position_embeddings_type: z.enum(["relative", "rotary"]).nullable().default("relative"),
  rotary_embedding_base: z.number().positive().default(10_000),
  conv_depthwise_kernel_size: positive.default(31),
});

/** The contents of `config.json`, with defaults filled in; `pad_token_id` is the CTC blank. */
export type Wav2Vec2Config = z.infer<typeof configSchema>;

/** @throws UsmLiteError BAD_CONFIG naming `source` and the key that is wrong */
export function parseWav2Vec2Config(json: unknown, source: string): Wav2Vec2Config {
  const config = checkedValue(configSchema, json, { source, code: "BAD_CONFIG" });
  const refuse = (key: string, sentence: string): never => {
    throw new UsmLiteError("BAD_CONFIG", `${source}: key "${key}" ${sentence}`);
  };
  const [architecture] = config.architectures ?? [];
  if (architecture !== undefined && !architecture.endsWith("ForCTC")) {
    refuse("architectures", `is ${architecture}; only models with a CTC head (ForCTC) give text`);
  }
  const { conv_dim, conv_stride, conv_kernel } = config;
  if (conv_dim.length === 0 || conv_stride.length !== conv_dim.length || conv_kernel.length !== conv_dim.length) {
    refuse("conv_dim", "must have as many entries as conv_stride and conv_kernel, at least one");
  }
  if (config.hidden_size % config.num_attention_heads !== 0) {
    refuse("hidden_size", `must be divisible by num_attention_heads, ${config.num_attention_heads}`);
  }
  if (config.hidden_size % config.num_conv_pos_embedding_groups !== 0) {
    refuse("hidden_size", `must be divisible by num_conv_pos_embedding_groups, ${config.num_conv_pos_embedding_groups}`);
  }
  if (config.add_adapter && config.model_type === "hubert") refuse("add_adapter", "is true; models of this family have no such layers");
  // One frame of zeros lies around the frames; transformers counts hidden frames as if it were half a kernel.
  if (config.add_adapter && config.adapter_kernel_size !== 3) refuse("adapter_kernel_size", `is ${config.adapter_kernel_size}; it must be 3`);
  if (config.pad_token_id >= config.vocab_size)
    refuse("pad_token_id", `must be below vocab_size, ${config.vocab_size}: it is the CTC blank`);
  if (config.model_type === "wav2vec2-conformer") {
    if (config.conv_depthwise_kernel_size % 2 === 0) refuse("conv_depthwise_kernel_size", "must be odd");
    const headSize = config.hidden_size / config.num_attention_heads;
    if (config.position_embeddings_type === "rotary" && headSize % 2 !== 0)
      refuse("num_attention_heads", "must give heads of an even size");
  }
  return config;
}

/** Values of the bottleneck that each block has for the language; undefined where, as in transformers, blocks have none. */
export const languageAdapterSize = (config: Wav2Vec2Config): number | undefined =>
  config.do_stable_layer_norm && config.model_type !== "wav2vec2-conformer" ? (config.adapter_attn_dim ?? undefined) : undefined;

/** Keys of families whose encoder may have layers behind it that shorten its output. */
type AdapterKeys = Pick<Wav2Vec2Config, "add_adapter" | "num_adapter_layers" | "hidden_size" | "output_hidden_size">;

/** Values of a frame that the CTC head is given. */
export const outputSize = ({ add_adapter, output_hidden_size, hidden_size }: AdapterKeys): number =>
  add_adapter ? (output_hidden_size ?? hidden_size) : hidden_size;

/** Adapter layers of the model, each of which leaves one frame of `adapter_stride`. */
export const adapterLayers = ({ add_adapter, num_adapter_layers }: AdapterKeys): number => (add_adapter ? num_adapter_layers : 0);

/** Samples per hidden frame. */
export const samplesPerFrame = (config: Wav2Vec2Config): number =>
  config.conv_stride.reduce((product, stride) => product * stride, config.adapter_stride ** adapterLayers(config));
