/** A model on disk: config.json, model.safetensors and what comes with them, in the layout of Hugging Face. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import type { FrontEnd } from "../audio/front_end.js";
import { readPreprocessorConfig } from "../audio/preprocessor_config.js";
import { readJsonFile, type JsonObject } from "../checkpoint/json_file.js";
import { DequantizedTensors, integerWeightsOf } from "../checkpoint/compressed_tensors.js";
import { RenamedTensors } from "../checkpoint/renamed_tensors.js";
import { readWeights } from "../checkpoint/sharded_safetensors.js";
import type { TensorFile } from "../checkpoint/tensor_file.js";
import { readLanguageModel } from "../decode/ngram_file.js";
import type { LanguageModelWeights } from "../decode/language_model_scorer.js";
import type { NgramLanguageModel } from "../decode/ngram_language_model.js";
import { gpuInformation, hasGpu } from "../device/gpu.js";
import { UsmLiteError } from "../errors.js";
import { loadTextTokenizer, loadTokenizer } from "../text/load_tokenizer.js";
import type { TextTokenizer } from "../text/text_tokenizer.js";
import type { Tokenizer } from "../text/tokenizer.js";
import { CheckpointWeights, type SharedMatrices, type WeightForm } from "./checkpoint_weights.js";
import { readCompression, type Compression } from "./compression_config.js";
import { families, type ModelDescription } from "./families.js";
import { readLanguageModelWeights } from "./language_model_weights.js";
import { checkLoadOptions } from "./load_options.js";
import { configInLanguage, readModelLanguage, weightsInLanguage, type ModelLanguage } from "./model_language.js";
import type { SpeechNetwork } from "./speech_network.js";

/** File names inside a model folder. */
export const modelFiles = {
  config: "config.json",
  weights: "model.safetensors",
  preprocessor: "preprocessor_config.json",
  generation: "generation_config.json",
  tokenizer: "tokenizer.json",
  languageModel: "language_model.bin",
  languageModelWeights: "language_model.json",
} as const;

/** A loaded model. */
export interface SpeechModel {
  readonly folder: string;
  readonly network: SpeechNetwork;
  /** What the folder was loaded for, where it has weights and a vocabulary for each language. */
  readonly language: string | undefined;
  /** Where features are made and networks compute, those of decoders too; beam searches of CTC and transducers happen on the CPU. */
  readonly device: "cpu" | "cuda";
  /** As in {@link LoadOptions}. */
  readonly batchInvariant: boolean;
  readonly frontEnd: FrontEnd;
  /** Absent when the folder has no file of one: such a model gives tokens but no text. */
  readonly tokenizer: Tokenizer | undefined;
  /** The same of a sequence-to-sequence model. */
  readonly textTokenizer: TextTokenizer | undefined;
  readonly languageModel: NgramLanguageModel | undefined;
  /** Absent: the defaults of the decoder. */
  readonly languageModelWeights: LanguageModelWeights | undefined;
  /** How each compressed weight is coded; empty for a float model. */
  readonly compression: Compression;
  /** Shapes of the weights of linear layers and convolutions over time, packed or not, by checkpoint name. */
  readonly linearShapes: ReadonlyMap<string, readonly number[]>;
  /** Audio seconds per encoder frame. */
  readonly secondsPerFrame: number;
  /** Makes the packed weights available to other workers of this process, for {@link LoadOptions.sharedMatrices}. */
  shareMatrices(): SharedMatrices;
}

/** How {@link loadModel} brings a model into memory. */
export interface LoadOptions {
  /** `packed` (the default) multiplies by packed weights; `float32` unpacks them first. */
  readonly weights?: WeightForm;
  /**
   * "cuda": networks compute on the GPU, in bfloat16; prediction and joint network of a transducer there only where it is decoded
   * greedily. "auto": the same where there is a GPU that can, and the CPU otherwise. "cpu" by default.
   */
  readonly device?: "auto" | "cpu" | "cuda";
  /**
   * How packed layers multiply on the GPU. "bfloat16" (the default): weights are widened, activations keep their 16 bits. "int8":
   * rows of activations are rounded to what the model was trained with, 8 bits or 4, and multiplied in whole numbers, as on the CPU:
   * faster with many frames, and with fewer bytes for layers with zero points.
   */
  readonly arithmetic?: "bfloat16" | "int8";
  /**
   * Whether a recording gives the same bits on the GPU whatever it is recognized together with, as it always does on the CPU; true by default.
   * false: where there are few frames, their number decides how sums are divided among thread blocks, which can be faster.
   */
  readonly batchInvariant?: boolean;
  /**
   * Of a folder with weights and a vocabulary for each language (MMS), which it is loaded for: "fra", by default the one that
   * `model.safetensors` is for. Other models are not loaded for a language; {@link RecognizerOptions.language} tells those that can be told.
   */
  readonly language?: string | undefined;
  /** What {@link SpeechModel.shareMatrices} gave in another worker, which must still hold the same model. */
  readonly sharedMatrices?: SharedMatrices;
}

/**
 * Reads a model folder in the layout of Hugging Face: of this package, or a published checkpoint of one of its families.
 * @throws UsmLiteError FILE_NOT_FOUND, BAD_CONFIG, BAD_CHECKPOINT, BAD_TOKENIZER, UNSUPPORTED_MODEL; each names the file. INVALID_ARGUMENT for an
 * option that does not exist, or a language that the model does not know. NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY with device "cuda"
 *
 * @example
 * const model = loadModel("packed", { device: "auto" });
 * const { text } = new Recognizer(model).transcribe((await decodeAudio("speech.flac")).samples);
 */
export function loadModel(folder: string, options: LoadOptions = {}): SpeechModel {
  checkLoadOptions(options);
  const described = describeFolder(folder, options.language);
  const { description } = described;
  const { device = "cpu" } = options;
  if (device === "cuda") checkGpu(described);
  if (device !== "auto") return loadOn(device, described, options);
  if (!description.gpuWeights || !hasGpu()) return loadOn("cpu", described, options);
  try {
    return loadOn("cuda", described, options);
  } catch (error) {
    // Weights that the GPU has no kernels or no room for are multiplied on the CPU.
    const other = error instanceof UsmLiteError && (error.code === "UNSUPPORTED_SPEC" || error.code === "OUT_OF_MEMORY");
    if (!other) throw error;
    return loadOn("cpu", described, options);
  }
}

/** A model folder before its weights are opened. */
interface DescribedFolder {
  readonly folder: string;
  /** `config.json`, as it is in the language. */
  readonly config: JsonObject;
  readonly description: ModelDescription;
  readonly language: ModelLanguage | undefined;
}

function describeFolder(folder: string, wanted: string | undefined): DescribedFolder {
  checkFolder(folder);
  const path = join(folder, modelFiles.config);
  const stored = readJsonFile(path, "BAD_CONFIG");
  const language = readModelLanguage(folder, stored, wanted);
  const config = configInLanguage(stored, language);
  return { folder, config, description: describeModel(config, path, readGeneration(folder)), language };
}

function loadOn(device: "cpu" | "cuda", described: DescribedFolder, options: LoadOptions): SpeechModel {
  const { folder, config, description, language } = described;
  const path = (file: keyof typeof modelFiles): string => join(folder, modelFiles[file]);
  const compression = readCompression(config, path("config"));
  using file = openWeights(described);
  const weights = new CheckpointWeights(file, compression.specs, options.weights ?? "packed", {
    ...(options.sharedMatrices ? { shared: options.sharedMatrices } : {}),
    ...(device === "cuda" && description.gpuWeights ? { onGpu: description.gpuWeights } : {}),
    ...(options.arithmetic ? { arithmetic: options.arithmetic } : {}),
    ...(compression.activations ? { activations: compression.activations } : {}),
  });
  const network = networkOf(description, weights);
  const preprocessor = readPreprocessorConfig(folder);
  const frontEnd = description.frontEnd(preprocessor.json, preprocessor.path);
  if (frontEnd.config.featureSize !== network.featureSize) {
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${preprocessor.path}: feature_size is ${frontEnd.config.featureSize} but config.json has num_mel_bins ${network.featureSize}`,
    );
  }
  return {
    folder,
    network,
    language: language?.name,
    device,
    batchInvariant: options.batchInvariant ?? true,
    frontEnd,
    tokenizer:
      network.kind === "sequence-to-sequence"
        ? undefined
        : loadTokenizer(folder, network.blankId, network.vocabularySize, language?.vocabulary),
    textTokenizer: network.kind === "sequence-to-sequence" ? loadTextTokenizer(folder, network.generation.endId) : undefined,
    languageModel: existsSync(path("languageModel")) ? readLanguageModel(path("languageModel")) : undefined,
    languageModelWeights: readLanguageModelWeights(path("languageModelWeights")),
    compression,
    linearShapes: weights.linearShapes,
    secondsPerFrame: (frontEnd.config.hopLength * description.stride) / frontEnd.config.samplingRate,
    shareMatrices: () => weights.share(),
  };
}

/** Leaves no packed weights behind when it fails. */
function networkOf(description: ModelDescription, weights: CheckpointWeights): SpeechNetwork {
  try {
    const network = description.network(weights);
    weights.checkAllUsed(description.unusedWeights);
    return network;
  } catch (error) {
    weights.disposeMatrices();
    throw error;
  }
}

/** What a model folder holds, without its weights. */
export interface ModelOutline {
  /** Knows names and shapes, and cannot compute. */
  readonly network: SpeechNetwork;
  readonly compression: Compression;
  /** The open weights. */
  readonly file: TensorFile;
  /** As in {@link SpeechModel}. */
  readonly language: string | undefined;
}

/**
 * Checks that the weights are those that `config.json` asks for, and reads none. Close its `file`.
 * @param language as in {@link LoadOptions}
 * @throws UsmLiteError FILE_NOT_FOUND, BAD_CONFIG, BAD_CHECKPOINT, UNSUPPORTED_MODEL; each names the file. INVALID_ARGUMENT for a language that
 * the model does not know
 */
export function outlineModel(folder: string, language?: string): ModelOutline {
  const described = describeFolder(folder, language);
  const { description, config } = described;
  const compression = readCompression(config, join(folder, modelFiles.config));
  const file = openWeights(described);
  try {
    const weights = new CheckpointWeights(file, compression.specs, "shapes");
    const network = description.network(weights);
    weights.checkAllUsed(description.unusedWeights);
    return { network, compression, file, language: described.language?.name };
  } catch (error) {
    file.close();
    throw error;
  }
}

/** @throws UsmLiteError UNSUPPORTED_MODEL, or BAD_CONFIG naming the key that is wrong */
export function describeModel(config: JsonObject, source: string, generation: JsonObject = {}): ModelDescription {
  const type = config["model_type"];
  const family = typeof type === "string" && Object.hasOwn(families, type) ? families[type] : undefined;
  if (family) return family(config, source, generation);
  throw new UsmLiteError(
    "UNSUPPORTED_MODEL",
    `${source}: model_type ${JSON.stringify(type)} is not supported; these are: ${Object.keys(families).join(", ")}`,
  );
}

/** @throws UsmLiteError UNSUPPORTED_MODEL for a family that has no GPU form; NO_GPU, DRIVER_TOO_OLD */
function checkGpu({ folder, config, description }: DescribedFolder): void {
  if (!description.gpuWeights) {
    throw new UsmLiteError(
      "UNSUPPORTED_MODEL",
      `${join(folder, modelFiles.config)}: a model like this of ${String(config["model_type"])} computes on the CPU only; use device "cpu"`,
    );
  }
  gpuInformation();
}

function checkFolder(folder: string): void {
  const wanted = `name a folder with a ${modelFiles.config}`;
  const found = statSync(folder, { throwIfNoEntry: false });
  if (!found) {
    const hub = /^[\w.-]+\/[\w.-]+$/.test(folder) ? `, or download a model of the hub: usm-lite pull ${folder}` : "";
    throw new UsmLiteError("FILE_NOT_FOUND", `model folder ${folder} does not exist; ${wanted}${hub}`);
  }
  if (!found.isDirectory()) throw new UsmLiteError("FILE_UNREADABLE", `${folder} is a file, no model; ${wanted}`);
  if (existsSync(join(folder, modelFiles.config))) return;
  throw new UsmLiteError("FILE_NOT_FOUND", `${folder} is no model: ${join(folder, modelFiles.config)} does not exist; ${wanted}`);
}

function openWeights({ folder, config, description: { rename }, language }: DescribedFolder): TensorFile {
  // Our own section says more of the same weights.
  const integers = config["usm_lite"] === undefined ? integerWeightsOf(config, join(folder, modelFiles.config)) : undefined;
  const stored = weightsInLanguage(readWeights(folder), language);
  try {
    const file = integers ? new DequantizedTensors(stored, integers) : stored;
    return rename ? new RenamedTensors(file, rename) : file;
  } catch (error) {
    stored.close();
    throw error;
  }
}

/** `generation_config.json` of a folder; nothing where there is none. */
function readGeneration(folder: string): JsonObject {
  const path = join(folder, modelFiles.generation);
  return existsSync(path) ? readJsonFile(path, "BAD_CONFIG") : {};
}
