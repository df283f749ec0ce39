/**
 * One language of a model that has a small adapter, a head and a vocabulary for each: the Massively Multilingual Speech models (MMS,
 * Pratap et al. 2023). `model.safetensors` holds those of one language, which `tokenizer_config.json` calls `target_lang`; beside it
 * `adapter.LANGUAGE.safetensors` holds those of another.
 */
import { existsSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { readJsonFile, writeJsonFile, type JsonObject } from "../checkpoint/json_file.js";
import { ReplacedTensors } from "../checkpoint/replaced_tensors.js";
import { readSafetensors } from "../checkpoint/safetensors.js";
import { readWeights } from "../checkpoint/sharded_safetensors.js";
import type { TensorFile } from "../checkpoint/tensor_file.js";
import { UsmLiteError } from "../errors.js";
import { adapterLanguages, languageAdapterFile, readLanguageVocabularies, someLanguages } from "../text/language_vocabularies.js";

export interface ModelLanguage {
  /** What the model calls it, such as "fra": ISO 639-3, with MMS. */
  readonly name: string;
  /** `{token: id}` */
  readonly vocabulary: JsonObject;
  /** The file with its weights; undefined where `model.safetensors` holds them. */
  readonly adapter: string | undefined;
}

/**
 * The language that a folder is to be loaded for; undefined where it does not have several: what is `wanted` is then for the network to hear.
 * @param wanted absent: the one that `model.safetensors` is for
 * @throws UsmLiteError INVALID_ARGUMENT for a language that the model does not know; FILE_NOT_FOUND for one whose adapter is not there;
 * BAD_TOKENIZER
 */
export function readModelLanguage(folder: string, config: JsonObject, wanted: string | undefined): ModelLanguage | undefined {
  const { model_type: type, adapter_attn_dim: size } = config;
  if (!/^(wav2vec2|hubert)/.test(String(type))) return undefined; // other families have tokenizers of other kinds
  const known = readLanguageVocabularies(folder);
  const name = wanted ?? known?.own;
  if (!known || name === undefined) return undefined;
  const vocabulary = known.vocabularies.get(name);
  if (!vocabulary || basename(name) !== name) {
    const own = wanted === undefined;
    const asked = own ? `${join(folder, "tokenizer_config.json")}: target_lang is` : `the model in ${folder} knows no language`;
    throw new UsmLiteError(
      own ? "BAD_TOKENIZER" : "INVALID_ARGUMENT",
      `${asked} ${JSON.stringify(name.slice(0, 50))}; vocab.json knows ${someLanguages([...known.vocabularies.keys()], name)}`,
    );
  }
  if (name === known.own) return { name, vocabulary, adapter: undefined };
  const adapter = join(folder, languageAdapterFile(name));
  if (existsSync(adapter) && typeof size === "number") return { name, vocabulary, adapter };
  const here = new Set([...(known.own === undefined ? [] : [known.own]), ...adapterLanguages(readdirSync(folder))]);
  throw new UsmLiteError(
    "FILE_NOT_FOUND",
    typeof size === "number"
      ? `${adapter} does not exist, which would hold the weights of this language; here are those of ${someLanguages([...here], name)}. ` +
          `usm-lite pull ORG/MODEL --language ${name} brings others`
      : `${folder} has no weights for "${name}": without adapter_attn_dim in config.json, it has those of model.safetensors alone`,
  );
}

/**
 * `config.json` of a folder as it is in a language, whose vocabulary may have another size.
 * @throws UsmLiteError FILE_UNREADABLE, BAD_CHECKPOINT
 */
export function configInLanguage(config: JsonObject, language: ModelLanguage | undefined): JsonObject {
  if (language?.adapter === undefined) return config;
  using adapter = readSafetensors(language.adapter);
  if (!adapter.has(headName)) throw bad(adapter, `has no tensor "${headName}"`);
  const [size] = adapter.shape(headName);
  return { ...config, vocab_size: size ?? 0 };
}

/**
 * The weights of a folder in a language. Takes `file` over, also when it throws.
 * @throws UsmLiteError FILE_UNREADABLE; BAD_CHECKPOINT for an adapter of another model
 */
export function weightsInLanguage(file: TensorFile, language: ModelLanguage | undefined): TensorFile {
  if (language?.adapter === undefined) return file;
  try {
    const adapter = readSafetensors(language.adapter);
    const both = new ReplacedTensors(file, adapter);
    try {
      checkFits(file, adapter);
    } catch (error) {
      adapter.close();
      throw error;
    }
    return both;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** The weights of a folder in one of its languages. @throws UsmLiteError as {@link readModelLanguage}, {@link weightsInLanguage} */
export function readWeightsInLanguage(folder: string, language: string): TensorFile {
  const config = readJsonFile(join(folder, "config.json"), "BAD_CONFIG");
  return weightsInLanguage(readWeights(folder), readModelLanguage(folder, config, language));
}

/**
 * Of a network that is not told the language as it writes.
 * @param wanted what a caller wants spoken; undefined: whatever the model was loaded for
 * @throws UsmLiteError INVALID_ARGUMENT unless it was loaded for it
 */
export function checkLanguage({ folder, language }: { folder: string; language: string | undefined }, wanted: string | undefined): void {
  if (wanted === undefined || wanted === language) return;
  throw new UsmLiteError(
    "INVALID_ARGUMENT",
    language === undefined
      ? `${folder} writes what it hears and takes no language; leave it out`
      : `${folder} was loaded for the language "${language}", not for "${wanted}"; load it for that one`,
  );
}

/**
 * Makes it the only language of a folder with weights for it and a copy of the tokenizer's files.
 * @throws UsmLiteError FILE_UNWRITABLE
 */
export function writeOnlyLanguage(folder: string, { name, vocabulary }: ModelLanguage): void {
  writeJsonFile(join(folder, "vocab.json"), { [name]: vocabulary });
  const path = join(folder, "tokenizer_config.json");
  const config = existsSync(path) ? readJsonFile(path, "BAD_TOKENIZER") : {};
  writeJsonFile(path, { ...config, target_lang: name });
}

const headName = "lm_head.weight";

/** All that differs between languages must be there, and nothing else. */
function checkFits(file: TensorFile, adapter: TensorFile): void {
  const own = file.names().filter((name) => /\.adapter_layer\.|^lm_head\./.test(name));
  const missing = own.find((name) => !adapter.has(name));
  if (missing !== undefined) throw bad(adapter, `has no tensor "${missing}", which ${file.path} has for its own language`);
  for (const name of adapter.names()) {
    if (!own.includes(name)) throw bad(adapter, `has a tensor "${name}", which ${file.path} does not have for its own language`);
    const [found, wanted] = [adapter.shape(name), file.shape(name)];
    // Heads have one output for each token of a language.
    const same = (extent: number, axis: number): boolean => extent === wanted[axis] || (axis === 0 && name.startsWith("lm_head."));
    if (found.length !== wanted.length || !found.every(same)) {
      throw bad(adapter, `has a tensor "${name}" of shape (${found.join(", ")}), where ${file.path} has (${wanted.join(", ")})`);
    }
  }
}

const bad = (adapter: TensorFile, problem: string): UsmLiteError =>
  new UsmLiteError("BAD_CHECKPOINT", `${adapter.path} ${problem}; it must be an adapter of the same model`);
