/** What binds an adapter to the model that it was trained on. */
import { createHash } from "node:crypto";
import { readWeights } from "../checkpoint/sharded_safetensors.js";
import { readWeightsInLanguage } from "../models/model_language.js";

/**
 * SHA-256 over names, types, shapes and bytes of all weights of a model folder, whatever files they lie in: "sha256:..".
 * @param language what it was loaded for, where it has weights for each
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_CHECKPOINT
 */
export function baseChecksum(folder: string, language?: string): string {
  using weights = language === undefined ? readWeights(folder) : readWeightsInLanguage(folder, language);
  const hash = createHash("sha256");
  for (const name of weights.names().sort()) {
    hash.update(JSON.stringify([name, weights.dtype(name), weights.shape(name)]));
    hash.update(weights.bytes(name));
  }
  return `sha256:${hash.digest("hex")}`;
}
