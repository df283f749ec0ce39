/** `vocab.json` of models with one vocabulary for each language, such as MMS: `{language: {token: id}}`. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonFile, type JsonObject, type JsonValue } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";

export interface LanguageVocabularies {
  /** `{token: id}` by language. */
  readonly vocabularies: ReadonlyMap<string, JsonObject>;
  /** `target_lang` of tokenizer_config.json: the language that the model's own weights are for. */
  readonly own: string | undefined;
}

/**
 * Undefined where the tokenizer of a folder is another, or has one vocabulary.
 * @throws UsmLiteError BAD_TOKENIZER for a file that cannot be read, or has vocabularies for some languages only
 */
export function readLanguageVocabularies(folder: string): LanguageVocabularies | undefined {
  const path = join(folder, "vocab.json");
  if (!existsSync(path)) return undefined;
  const vocabularies = vocabulariesOf(readJsonFile(path, "BAD_TOKENIZER"), path);
  if (!vocabularies) return undefined;
  const config = join(folder, "tokenizer_config.json");
  const own = existsSync(config) ? readJsonFile(config, "BAD_TOKENIZER")["target_lang"] : undefined;
  return { vocabularies, own: typeof own === "string" ? own : undefined };
}

/** Undefined of one vocabulary for all. */
function vocabulariesOf(json: JsonObject, path: string): ReadonlyMap<string, JsonObject> | undefined {
  const entries = Object.entries(json);
  const nested = entries.filter((entry): entry is [string, JsonObject] => isObject(entry[1]));
  if (nested.length === 0) return undefined;
  const other = entries.find(([, value]) => !isObject(value));
  if (!other) return new Map(nested);
  throw new UsmLiteError(
    "BAD_TOKENIZER",
    `${path} has vocabularies of languages such as "${nested[0]?.[0]}" beside the token "${other[0].slice(0, 50)}"; it must have one kind`,
  );
}

const isObject = (value: JsonValue): boolean => typeof value === "object" && value !== null && !Array.isArray(value);

const adapterName = /^adapter\.(.+)\.safetensors$/;

/** Name of the file beside `model.safetensors` that holds the weights of a language. */
export const languageAdapterFile = (language: string): string => `adapter.${language}.safetensors`;

/** Languages among `files` of a folder or repository. */
export const adapterLanguages = (files: readonly string[]): string[] =>
  files.flatMap((file) => adapterName.exec(file)?.slice(1, 2) ?? []).sort();

/** A few of many languages, those first that begin like the one that was asked for. */
export function someLanguages(known: readonly string[], wanted: string): string {
  const alike = (name: string): number => (name.slice(0, 2) === wanted.slice(0, 2) ? 0 : 1);
  const sorted = [...known].sort((a, b) => alike(a) - alike(b) || (a < b ? -1 : 1));
  const shown = sorted.slice(0, 12).map((name) => name.slice(0, 50));
  return sorted.length > shown.length ? `${shown.join(", ")} and ${sorted.length - shown.length} more` : shown.join(", ") || "none";
}
