/** A model on disk: config.json, model.safetensors and what comes with them, in the layout of Hugging Face. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { LogMel } from "../audio/log_mel.js";
import { readJsonFile } from "../checkpoint/json_file.js";
import { readSafetensors } from "../checkpoint/safetensors.js";
import { readLanguageModel } from "../decode/ngram_file.js";
import type { LanguageModelWeights } from "../decode/language_model_scorer.js";
import type { NgramLanguageModel } from "../decode/ngram_language_model.js";
import { UsmLiteError } from "../errors.js";
import { Tokenizer } from "../text/tokenizer.js";
import { CheckpointWeights, type SharedMatrices, type WeightForm } from "./checkpoint_weights.js";
import { readCompression, type Compression } from "./compression_config.js";
import { readLanguageModelWeights } from "./language_model_weights.js";
import { parseLasrConfig } from "./lasr/lasr_config.js";
import { LasrForCtc } from "./lasr/lasr_for_ctc.js";

/** File names inside a model folder. */
export const modelFiles = {
  config: "config.json",
  weights: "model.safetensors",
  preprocessor: "preprocessor_config.json",
  tokenizer: "tokenizer.json",
  languageModel: "language_model.bin",
  languageModelWeights: "language_model.json",
} as const;

/** A loaded model. */
export interface SpeechModel {
  readonly folder: string;
  readonly network: LasrForCtc;
  readonly frontEnd: LogMel;
  /** Absent when the folder has no tokenizer.json: such a model gives tokens but no text. */
  readonly tokenizer: Tokenizer | undefined;
  readonly languageModel: NgramLanguageModel | undefined;
  /** Absent: the defaults of the decoder. */
  readonly languageModelWeights: LanguageModelWeights | undefined;
  /** How each compressed weight is coded; empty for a float model. */
  readonly compression: Compression;
  /** Audio seconds per encoder frame. */
  readonly secondsPerFrame: number;
  /** Makes the packed weights available to other workers of this process, for {@link LoadOptions.sharedMatrices}. */
  shareMatrices(): SharedMatrices;
}

export interface LoadOptions {
  /** `packed` (the default) multiplies by packed weights; `float32` unpacks them first. */
  readonly weights?: WeightForm;
  /** What {@link SpeechModel.shareMatrices} gave in another worker, which must still hold the same model. */
  readonly sharedMatrices?: SharedMatrices;
}

/**
 * @throws UsmLiteError FILE_NOT_FOUND, BAD_CONFIG, BAD_CHECKPOINT, BAD_TOKENIZER, UNSUPPORTED_MODEL; each names the file
 */
export function loadModel(folder: string, options: LoadOptions = {}): SpeechModel {
  if (!existsSync(folder)) {
    throw new UsmLiteError("FILE_NOT_FOUND", `model folder ${folder} does not exist; name a folder with a config.json`);
  }
  const path = (file: keyof typeof modelFiles): string => join(folder, modelFiles[file]);
  const json = readJsonFile(path("config"), "BAD_CONFIG");
  if (json["model_type"] !== "lasr_ctc") {
    throw new UsmLiteError(
      "UNSUPPORTED_MODEL",
      `${path("config")}: model_type ${JSON.stringify(json["model_type"])} is not supported; lasr_ctc is`,
    );
  }
  const config = parseLasrConfig(json, path("config"));
  const compression = readCompression(json, path("config"));
  using file = readSafetensors(path("weights"));
  const weights = new CheckpointWeights(file, compression.specs, options.weights ?? "packed", options.sharedMatrices);
  const network = new LasrForCtc(config, weights);
  weights.checkAllUsed();
  const frontEnd = LogMel.fromJson(readJsonFile(path("preprocessor"), "BAD_CONFIG"), path("preprocessor"));
  if (frontEnd.config.featureSize !== config.encoder_config.num_mel_bins) {
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${path("preprocessor")}: feature_size is ${frontEnd.config.featureSize} but config.json has num_mel_bins ` +
        `${config.encoder_config.num_mel_bins}`,
    );
  }
  return {
    folder,
    network,
    frontEnd,
    tokenizer: existsSync(path("tokenizer")) ? Tokenizer.load(folder) : undefined,
    languageModel: existsSync(path("languageModel")) ? readLanguageModel(path("languageModel")) : undefined,
    languageModelWeights: readLanguageModelWeights(path("languageModelWeights")),
    compression,
    secondsPerFrame: (frontEnd.config.hopLength * config.encoder_config.subsampling_conv_stride ** 2) / frontEnd.config.samplingRate,
    shareMatrices: () => Object.fromEntries([...weights.matrices].map(([name, matrix]) => [name, matrix.share()])),
  };
}
