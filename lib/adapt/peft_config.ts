/** `adapter_config.json` of Hugging Face's PEFT, as far as it describes what is computed here. */
import { z } from "zod";
import { checkedValue } from "../checkpoint/checked_value.js";
import type { JsonObject } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";

/** No adapter of a speaker needs more; a hostile one could ask for any amount of memory. */
export const maximumRank = 256;

const positive = z.number().positive().max(1e6);
const schema = z.looseObject({
  peft_type: z.literal("LORA"),
  r: z.number().int().min(1).max(maximumRank),
  lora_alpha: positive,
  rank_pattern: z.record(z.string(), z.number().int().min(1).max(maximumRank)).nullish(),
  alpha_pattern: z.record(z.string(), positive).nullish(),
  use_rslora: z.boolean().nullish(),
  // Other ways to adapt, which this package does not compute: they must be off.
  bias: z.literal("none").nullish(),
  use_dora: z.literal(false).nullish(),
  lora_bias: z.literal(false).nullish(),
  fan_in_fan_out: z.literal(false).nullish(),
  modules_to_save: z.array(z.never()).nullish(),
  layer_replication: z.null().optional(),
  usm_lite: z.looseObject({ base_checksum: z.string().regex(/^sha256:[0-9a-f]{64}$/) }).optional(),
});

export type PeftConfig = z.output<typeof schema>;

/** @throws UsmLiteError BAD_ADAPTER naming file and key */
export const parsePeftConfig = (json: JsonObject, source: string): PeftConfig =>
  checkedValue(schema, json, { source, code: "BAD_ADAPTER", hint: "plain LoRA adapters can be used, see docs/adaptation.md" });

/** What the factors of one module are, and what their product is multiplied by. */
export interface ModuleSettings {
  readonly rank: number;
  readonly scale: number;
}

/** Rank and factor of one module, as its patterns and PEFT's rules say. */
export function moduleSettings(config: PeftConfig, module: string, source: string): ModuleSettings {
  const rank = matching(config.rank_pattern, module, source) ?? config.r;
  const alpha = matching(config.alpha_pattern, module, source) ?? config.lora_alpha;
  return { rank, scale: config.use_rslora ? alpha / Math.sqrt(rank) : alpha / rank };
}

/** The first key that is the module's name or its end. Keys of PEFT are regular expressions; only names are taken here. */
function matching(pattern: Readonly<Record<string, number>> | null | undefined, module: string, source: string): number | undefined {
  for (const [key, value] of Object.entries(pattern ?? {})) {
    if (!/^\^?[\w.]+\$?$/.test(key)) {
      throw new UsmLiteError("BAD_ADAPTER", `${source}: the pattern ${JSON.stringify(key)} is no name of a module; write names in full`);
    }
    const name = key.replace(/^\^|\$$/g, "");
    if (module === name || (!key.startsWith("^") && module.endsWith(`.${name}`))) return value;
  }
  return undefined;
}

/** What {@link writeAdapter} says of an adapter. */
export interface AdapterDescription {
  /** Rank of each module, by its full name. */
  readonly ranks: ReadonlyMap<string, number>;
  readonly dropout: number;
  readonly baseModel: string;
  readonly baseChecksum: string;
  /** How it came about: numbers and words for people. */
  readonly training: JsonObject;
}

/**
 * All that PEFT's `LoraConfig` needs, and our own part under `usm_lite`, which PEFT leaves alone. alpha is the rank: factors
 * are in the weights.
 */
export function formatPeftConfig({ ranks, dropout, baseModel, baseChecksum, training }: AdapterDescription): JsonObject {
  const rank = Math.max(...ranks.values());
  const others = Object.fromEntries([...ranks].filter(([, other]) => other !== rank));
  return {
    peft_type: "LORA",
    task_type: null,
    auto_mapping: null,
    base_model_name_or_path: baseModel,
    revision: null,
    inference_mode: true,
    r: rank,
    lora_alpha: rank,
    lora_dropout: dropout,
    target_modules: [...ranks.keys()],
    exclude_modules: null,
    bias: "none",
    fan_in_fan_out: false,
    use_rslora: false,
    use_dora: false,
    lora_bias: false,
    modules_to_save: null,
    init_lora_weights: true,
    layers_to_transform: null,
    layers_pattern: null,
    rank_pattern: others,
    alpha_pattern: others,
    layer_replication: null,
    usm_lite: { base_checksum: baseChecksum, training },
  };
}
