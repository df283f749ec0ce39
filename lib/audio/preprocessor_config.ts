/** `preprocessor_config.json`: every key that changes the features is honoured or refused. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { readJsonFile, type JsonObject } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";

/** What a family's feature extractor can be told. */
export interface PreprocessorKeys {
  /** Whole numbers from 1, by key. */
  readonly numbers: Readonly<Record<string, number>>;
  /** Numbers from 0 that may be fractions, by key. */
  readonly fractions?: Readonly<Record<string, number>>;
  readonly switches?: Readonly<Record<string, boolean>>;
  /** Keys that change nothing here. */
  readonly ignored: readonly string[];
  /** Keys allowed only with one of these values, which change nothing. */
  readonly neutral: Readonly<Record<string, readonly unknown[]>>;
}

export interface PreprocessorValues {
  readonly numbers: Readonly<Record<string, number>>;
  readonly fractions: Readonly<Record<string, number>>;
  readonly switches: Readonly<Record<string, boolean>>;
}

// How batches are padded is of no concern: there is no padding.
const alwaysIgnored = ["padding_side", "padding_value", "return_attention_mask", "processor_class"];

/** The file of a model folder: its name, and the part of it that is about features. */
export interface PreprocessorFile {
  readonly path: string;
  readonly json: JsonObject;
}

/** Reads `preprocessor_config.json`, or `feature_extractor` in `processor_config.json`. @throws UsmLiteError FILE_NOT_FOUND, BAD_CONFIG */
export function readPreprocessorConfig(folder: string): PreprocessorFile {
  const path = join(folder, "preprocessor_config.json");
  const processor = join(folder, "processor_config.json");
  if (!existsSync(path) && existsSync(processor)) {
    const section = readJsonFile(processor, "BAD_CONFIG")["feature_extractor"];
    if (typeof section === "object" && section !== null && !Array.isArray(section)) return { path: processor, json: section };
  }
  return { path, json: readJsonFile(path, "BAD_CONFIG") };
}

/**
 * @param source the file's name, for messages
 * @param frontEnd what to call the front end in messages
 * @throws UsmLiteError BAD_CONFIG for anything that would make other features than this front end's
 */
export function preprocessorValues(json: unknown, source: string, frontEnd: string, keys: PreprocessorKeys): PreprocessorValues {
  const fail = (sentence: string): never => {
    throw new UsmLiteError("BAD_CONFIG", `${source}: ${sentence}`);
  };
  if (typeof json !== "object" || json === null || Array.isArray(json)) return fail("must be a JSON object");
  const values = { numbers: { ...keys.numbers }, fractions: { ...keys.fractions }, switches: { ...keys.switches } };
  for (const [key, value] of Object.entries(json)) {
    if (Object.hasOwn(keys.numbers, key)) {
      if (!Number.isInteger(value) || (value as number) <= 0) fail(`${key} is ${JSON.stringify(value)}; it must be a whole number from 1`);
      values.numbers[key] = value as number;
    } else if (Object.hasOwn(values.fractions, key)) {
      if (value !== null && (typeof value !== "number" || !(value >= 0)))
        fail(`${key} is ${JSON.stringify(value)}; it must be a number from 0`);
      values.fractions[key] = (value ?? 0) as number;
    } else if (Object.hasOwn(values.switches, key)) {
      if (value !== null && typeof value !== "boolean") fail(`${key} is ${JSON.stringify(value)}; it must be true or false`);
      values.switches[key] = value === true;
    } else if (Object.hasOwn(keys.neutral, key)) {
      const allowed = keys.neutral[key] as readonly unknown[];
      if (!allowed.includes(value)) fail(`${key} is ${JSON.stringify(value)}; this front end only knows ${JSON.stringify(allowed[0])}`);
    } else if (!alwaysIgnored.includes(key) && !keys.ignored.includes(key)) {
      fail(`"${key}" is not known to the ${frontEnd} front end; remove it if it does not change the features`);
    }
  }
  return values;
}
