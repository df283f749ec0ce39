/** Folders with random weights of any family: what tests of loading, compressing and transcribing need. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { writeJsonFile, type JsonObject } from "../lib/checkpoint/json_file.js";
import { writeSafetensors } from "../lib/operations.js";
import { describeModel } from "../lib/models/model_folder.js";
import { FreshWeights } from "../lib/nn/fresh_weights.js";

/** Writes config.json, preprocessor_config.json, generation_config.json if there is one, and model.safetensors; returns the folder. */
export function writeRandomModel(
  folder: string,
  config: object,
  preprocessor: object,
  { seed = 1, generation }: { seed?: number; generation?: object } = {},
): string {
  mkdirSync(folder, { recursive: true });
  const network = describeModel(config as JsonObject, "config.json", (generation ?? {}) as JsonObject).network(new FreshWeights(seed));
  writeJsonFile(join(folder, "config.json"), config);
  writeJsonFile(join(folder, "preprocessor_config.json"), preprocessor);
  if (generation) writeJsonFile(join(folder, "generation_config.json"), generation);
  writeSafetensors(join(folder, "model.safetensors"), [...network.parameters(), ...network.buffers()], { format: "pt" });
  return folder;
}
