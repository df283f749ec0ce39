/** Writing a compressed model: packed weights, the float remainder, and the files that came with the original. */
import { copyFileSync, existsSync } from "node:fs";
import { join } from "node:path";
import { writeTextFile } from "../checkpoint/atomic_file.js";
import { writeFolderAtomically } from "../checkpoint/atomic_folder.js";
import { readJsonFile, type JsonObject } from "../checkpoint/json_file.js";
import { quantizationConfig, type Announcement, type CompressedTensorsFormat } from "../checkpoint/compressed_tensors.js";
import { packedEntries } from "../checkpoint/packed_weights.js";
import { writeSafetensors, type SafetensorsEntry } from "../checkpoint/safetensors_writer.js";
import { SafetensorsStream } from "../checkpoint/safetensors_stream.js";
import type { TensorFile } from "../checkpoint/tensor_file.js";
import { UsmLiteError } from "../errors.js";
import { compressionSection } from "../models/compression_config.js";
import { formatLasrConfig } from "../models/lasr/lasr_config.js";
import { modelFiles } from "../models/model_folder.js";
import { configInLanguage, readModelLanguage, writeOnlyLanguage } from "../models/model_language.js";
import type { SpeechNetwork } from "../models/speech_network.js";
import { packWeight, type PackedWeight } from "../quant/packed_weight.js";
import type { WeightSpec } from "../quant/weight_spec.js";
import { tidy } from "../tensor/scope.js";
import { tokenizerFiles } from "../text/load_tokenizer.js";
import type { Tensor } from "../tensor/tensor.js";
import type { LayerCoding } from "../quant/layer_coding.js";
import type { CompressionPlan, PlannedStage } from "./compression_plan.js";
import type { ModelVariant } from "../train/training_modifier.js";
import { modifierError } from "./modifier.js";
import { changedLayer, CompressionState, floatSpec, type LayerState } from "./compression_state.js";

/** What the header of the weights says of them: transformers asks for it. */
export const weightsMetadata = { format: "pt" } as const;

export interface ExportOptions {
  /** Folder of the float model: its config, tokenizer and language model are taken over. */
  readonly from: string;
  /** Folder to make; must not exist. */
  readonly to: string;
  /** What `from` was loaded for, where it has weights and a vocabulary for each language: only those of this one go along. */
  readonly language?: string | undefined;
  readonly plan: CompressionPlan;
  /** Weights, masks and scales; a sparse weight without a mask is pruned by magnitude. */
  readonly state: CompressionState;
  /** Layout of compressed-tensors that all packed weights must have; absent: that of docs/format.md. */
  readonly format?: CompressedTensorsFormat | undefined;
}

function pack(name: string, weight: Tensor, spec: WeightSpec, { mask, scale, zeroPoint }: LayerCoding): PackedWeight {
  try {
    return packWeight(weight, spec.text, spec.sparsity && mask, { ...(scale ? { scale } : {}), ...(zeroPoint ? { zeroPoint } : {}) });
  } catch (cause) {
    if (!(cause instanceof UsmLiteError)) throw cause;
    throw new UsmLiteError(cause.code, `weight "${name}": ${cause.message}`, { cause });
  }
}

/**
 * Packs the weights of a checkpoint one after another: memory holds one at a time. What is not packed keeps its bytes.
 * @throws UsmLiteError INVALID_ARGUMENT when the folder exists; BAD_CHECKPOINT for weights that are not finite; UNSUPPORTED_SPEC for a spec
 * that `format` cannot hold
 */
export function exportInOneShot(
  file: TensorFile,
  {
    from,
    to,
    language,
    stages,
    format,
  }: Pick<ExportOptions, "from" | "to" | "language" | "format"> & { readonly stages: readonly PlannedStage[] },
): void {
  const plan = stages.at(-1)?.plan ?? new Map<string, WeightSpec>();
  writeFolderAtomically(to, (folder) => {
    writeCompanions({ from, language }, folder, plan, { shapeOf: (name) => file.shape(name), format });
    using stream = new SafetensorsStream(join(folder, modelFiles.weights));
    for (const name of file.names()) {
      const spec = plan.get(name);
      if (spec) {
        tidy(() => {
          const { weight, ...coding } = compressed(name, file.tensor(name), stages);
          packedEntries(name, pack(name, weight, spec, coding), format).forEach(([part, entry]) => stream.append(part, entry));
        });
      } else {
        stream.append(name, { dtype: file.dtype(name), shape: file.shape(name), data: file.bytes(name) });
      }
    }
    stream.finish(weightsMetadata);
  });
}

/**
 * Writes `network` as a model folder, whole or not at all.
 * @throws UsmLiteError INVALID_ARGUMENT when the folder exists; UNSUPPORTED_SPEC for a spec that `format` cannot hold
 */
export function exportModel(network: SpeechNetwork, { from, to, language, plan, state, format }: ExportOptions): void {
  writeFolderAtomically(to, (folder) => {
    writeCompanions({ from, language }, folder, plan, {
      shapeOf: (name) => state.layer(name).weight.shape,
      format,
      activations: state.activations(plan.keys()),
    });
    tidy(() => {
      const entries: [string, SafetensorsEntry][] = [...network.buffers()];
      for (const name of network.parameters().keys()) {
        const { weight, ...coding } = state.layer(name);
        const spec = plan.get(name);
        if (!spec) entries.push([name, weight]);
        else entries.push(...packedEntries(name, pack(name, weight, spec, coding), format));
      }
      writeSafetensors(join(folder, modelFiles.weights), entries, weightsMetadata);
    });
  });
}

/**
 * Writes `network` once for each variant, in folders of their names below `to`, all or none.
 * @param state of the weights that no variant codes
 * @throws UsmLiteError INVALID_ARGUMENT when the folder exists
 */
export function exportVariants(
  network: SpeechNetwork,
  variants: readonly ModelVariant[],
  { from, to, language, state }: Omit<ExportOptions, "plan" | "format">,
): void {
  writeFolderAtomically(to, (folder) => {
    for (const { name, layers, buffers } of variants) {
      using own = new CompressionState(network.parameters());
      // What is packed for one size must not be what the next one is made of.
      const shared = [...layers]
        .flatMap(([layer, { weight }]) => (weight ? [own.layer(layer).weight] : []))
        .map((parameter) => [parameter, parameter.toArray()] as const);
      for (const [layer, spec] of state.plan) if (!layers.has(layer)) own.update(layer, { ...state.coding(layer), spec });
      for (const [layer, coding] of layers) own.update(layer, coding);
      for (const [buffer, tensor] of network.buffers()) tensor.write((buffers.get(buffer) ?? tensor).toArray());
      exportModel(network, { from, to: join(folder, name), language, plan: own.plan, state: own });
      for (const [parameter, values] of shared) parameter.write(values);
    }
  });
}

/** A weight after the modifiers of all stages, which look at nothing else. */
function compressed(name: string, weight: Tensor, stages: readonly PlannedStage[]): LayerState {
  let layer: LayerState = { weight, spec: floatSpec };
  for (const { weights, plan } of stages) {
    const spec = plan.get(name) ?? floatSpec;
    for (const [modifier, names] of weights) {
      if (!names.includes(name)) continue;
      try {
        const given = changedLayer(layer, { spec });
        layer = changedLayer(given, modifier.compressWeight?.(given) ?? {});
      } catch (cause) {
        throw modifierError(modifier, cause);
      }
    }
  }
  return layer;
}

/** config.json with what the plan says, and the files that stay as they are, but for those of a language. */
function writeCompanions(
  { from, language }: Pick<ExportOptions, "from" | "language">,
  folder: string,
  plan: CompressionPlan,
  announcement: Announcement,
): void {
  const stored = readJsonFile(join(from, modelFiles.config), "BAD_CONFIG");
  const spoken = readModelLanguage(from, stored, language);
  const config = { ...configInLanguage(stored, spoken) };
  // What it says of how the weights were stored before is over.
  delete config["quantization_config"];
  if (plan.size > 0) config["usm_lite"] = compressionSection(plan, announcement.activations) as JsonObject;
  const forOthers = quantizationConfig(plan, announcement);
  if (forOthers) config["quantization_config"] = forOthers as JsonObject;
  writeTextFile(join(folder, modelFiles.config), formatLasrConfig(config));
  const { preprocessor, generation, languageModel, languageModelWeights } = modelFiles;
  for (const file of [preprocessor, "processor_config.json", generation, languageModel, languageModelWeights, ...tokenizerFiles]) {
    if (existsSync(join(from, file))) copyFileSync(join(from, file), join(folder, file));
  }
  if (spoken) writeOnlyLanguage(folder, spoken);
}
