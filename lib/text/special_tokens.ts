/** Which tokens are no text: what `tokenizer_config.json` and `special_tokens_map.json` say of them, read as transformers does. */
import type { JsonObject, JsonValue } from "../checkpoint/json_file.js";

/**
 * What both files say together. The map counts more, and nothing where the other file lists added tokens: versions of
 * transformers that do so leave an old map behind.
 */
export function tokenizerSettings(config: JsonObject, map: JsonObject): JsonObject {
  if (config["added_tokens_decoder"] !== undefined) return config;
  const extra = [...extraTokens(config), ...textsIn(map["extra_special_tokens"])];
  return { ...config, ...map, extra_special_tokens: extra.length > 0 ? extra : textsIn(map["additional_special_tokens"]) };
}

/** Every token that the settings name as special: `mask_token` and all other keys that end so, and those without a name. */
export function specialTokensOf(settings: JsonObject): string[] {
  const named = Object.entries(settings).filter(([key]) => key.endsWith("_token") && key !== "word_delimiter_token");
  return [...named.map(([, token]) => contentOf(token)).filter((token) => typeof token === "string"), ...extraTokens(settings)];
}

/** Tokens may be written as objects with their text in `content`. */
export const contentOf = (value: JsonValue | undefined): JsonValue | undefined =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? value["content"] : value;

/** The older key counts where the newer one is missing or empty. */
function extraTokens(settings: JsonObject): string[] {
  const extra = textsIn(settings["extra_special_tokens"]);
  return extra.length > 0 ? extra : textsIn(settings["additional_special_tokens"]);
}

/** Of a list of tokens, or of `{name: token}`. */
function textsIn(tokens: JsonValue | undefined): string[] {
  if (typeof tokens !== "object" || tokens === null) return [];
  return Object.values(tokens)
    .map(contentOf)
    .filter((token) => typeof token === "string");
}
