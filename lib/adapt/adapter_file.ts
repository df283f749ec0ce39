/** Adapters on disk, in the layout of Hugging Face's PEFT: `adapter_config.json` and `adapter_model.safetensors`. */
import { existsSync, statSync } from "node:fs";
import { join } from "node:path";
import { checkReplaceable, writeFolderAtomically } from "../checkpoint/atomic_folder.js";
import { readJsonFile, unreadableFile, writeJsonFile, type JsonObject } from "../checkpoint/json_file.js";
import { readSafetensors, type SafetensorsFile } from "../checkpoint/safetensors.js";
import { writeSafetensors } from "../checkpoint/safetensors_writer.js";
import { UsmLiteError } from "../errors.js";
import type { LowRankFactors } from "../ops/low_rank.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { Adapter } from "./adapter.js";
import type { AdapterBase } from "./adapter_base.js";
import { formatPeftConfig, moduleSettings, parsePeftConfig, type ModuleSettings } from "./peft_config.js";

/** File names inside an adapter's folder. */
export const adapterFiles = { config: "adapter_config.json", weights: "adapter_model.safetensors" } as const;

const maximumBytes = 2 ** 30;

// PEFT wraps the model twice, which its names show.
const prefix = "base_model.model.";
const keyOf = (module: string, factor: "A" | "B"): string => `${prefix}${module}.lora_${factor}.weight`;
const moduleOf = (weight: string): string => weight.replace(/\.weight$/, "");

/**
 * Reads an adapter for a model.
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE; BAD_ADAPTER when it is malformed, adapts layers that the model does not
 *   have or in another shape, or holds NaN or infinity; ADAPTER_MISMATCH when it was trained on other weights
 *
 * @example
 * using adapter = readAdapter("adapters/ann", new AdapterBase(loadModel("packed")));
 */
export function readAdapter(folder: string, base: AdapterBase): Adapter {
  const configPath = join(folder, adapterFiles.config);
  if (!existsSync(configPath)) {
    throw new UsmLiteError(
      "FILE_NOT_FOUND",
      `${configPath} does not exist; name the folder of an adapter, as usm-lite adapt or PEFT writes it`,
    );
  }
  const config = parsePeftConfig(readJsonFile(configPath, "BAD_ADAPTER"), configPath);
  const bound = config.usm_lite?.base_checksum;
  if (bound !== undefined && bound !== base.checksum) {
    throw new UsmLiteError(
      "ADAPTER_MISMATCH",
      `${folder} was trained on other weights (${bound.slice(0, 19)}..) than those of ${base.folder} (${base.checksum.slice(0, 19)}..); ` +
        "train it again with usm-lite adapt --model",
    );
  }
  return ofAdapter(() => readWeights(join(folder, adapterFiles.weights), base, (module) => moduleSettings(config, module, configPath)));
}

function readWeights(path: string, base: AdapterBase, settingsOf: (module: string) => ModuleSettings): Adapter {
  checkSize(path);
  using file = readSafetensors(path);
  const factors = new Map<string, LowRankFactors>();
  try {
    for (const key of file.names()) {
      const [, module, factor] = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/.exec(key) ?? [];
      if (module === undefined) {
        throw new UsmLiteError(
          "BAD_ADAPTER",
          `${path}: tensor "${short(key)}" is no factor of a LoRA adapter (${keyOf("MODULE", "A")} or B)`,
        );
      }
      if (factor === "A") factors.set(`${module}.weight`, readFactors(file, module, base, settingsOf(module)));
      else if (!file.has(keyOf(module, "A"))) throw new UsmLiteError("BAD_ADAPTER", `${path}: "${short(key)}" has no lora_A beside it`);
    }
    if (factors.size === 0) throw new UsmLiteError("BAD_ADAPTER", `${path} holds no tensor`);
  } catch (error) {
    new Adapter(factors).dispose();
    throw error;
  }
  return new Adapter(factors);
}

/**
 * Before something is learned for hours: an adapter may be written to `folder`.
 * @throws UsmLiteError INVALID_ARGUMENT when something lies there that is no adapter, and would be lost
 */
export const checkAdapterFolder = (folder: string): void => checkReplaceable(folder, Object.values(adapterFiles), "an adapter");

/**
 * Writes an adapter, whole or not at all; one that is there is exchanged.
 * @throws UsmLiteError FILE_UNWRITABLE, or INVALID_ARGUMENT when something lies there that is no adapter
 *
 * @example
 * writeAdapter("adapters/ann", adapter, base, { dropout: adapterDefaults.dropout, training: { utterances: 20 } });
 */
export function writeAdapter(folder: string, adapter: Adapter, base: AdapterBase, about: { dropout: number; training: JsonObject }): void {
  checkAdapterFolder(folder);
  const ranks = new Map([...adapter.factors].map(([name, { down }]) => [moduleOf(name), down.dim(0)]));
  const config = formatPeftConfig({ ...about, ranks, baseModel: base.name, baseChecksum: base.checksum });
  tidy(() => {
    const entries = [...adapter.factors].flatMap(([name, { down, up }]): [string, Tensor][] => {
      // PEFT's factors of a pointwise convolution are such convolutions.
      const kernel = base.isConvolution(name) ? [1] : [];
      return [
        [keyOf(moduleOf(name), "A"), down.reshape([...down.shape, ...kernel])],
        [keyOf(moduleOf(name), "B"), transposed(up).reshape([up.dim(1), up.dim(0), ...kernel])],
      ];
    });
    writeFolderAtomically(
      folder,
      (temporary) => {
        writeJsonFile(join(temporary, adapterFiles.config), config);
        writeSafetensors(join(temporary, adapterFiles.weights), entries, { format: "pt" });
      },
      { replace: true },
    );
  });
}

function checkSize(path: string): void {
  let size: number | undefined;
  try {
    size = statSync(path, { throwIfNoEntry: false })?.size;
  } catch (error) {
    throw unreadableFile(path, error);
  }
  if (size !== undefined && size > maximumBytes) {
    throw new UsmLiteError("BAD_ADAPTER", `${path} is larger than 1 GiB, too large for an adapter`);
  }
}

/** What is wrong with a file of weights is wrong with the adapter. */
function ofAdapter<Result>(read: () => Result): Result {
  try {
    return read();
  } catch (cause) {
    if (cause instanceof UsmLiteError && cause.code === "BAD_CHECKPOINT") throw new UsmLiteError("BAD_ADAPTER", cause.message, { cause });
    throw cause;
  }
}

function readFactors(
  file: SafetensorsFile,
  module: string,
  base: AdapterBase,
  { rank, scale }: ModuleSettings,
): LowRankFactors {
  const layer = base.layers.get(`${module}.weight`);
  if (!layer) {
    throw new UsmLiteError(
      "BAD_ADAPTER",
      `${file.path} adapts "${short(module)}", which is no linear layer of ${base.folder} that adapters can be added to`,
    );
  }
  const [out, input] = layer;
  const down = readFactor(file, keyOf(module, "A"), [rank, input]);
  const up = readFactor(file, keyOf(module, "B"), [out, rank]);
  for (let i = 0; i < up.length; i++) up[i] = (up[i] as number) * scale;
  if (!up.every(Number.isFinite)) {
    throw new UsmLiteError("BAD_ADAPTER", `${file.path}: tensor "${short(keyOf(module, "B"))}" times lora_alpha / r is beyond float32`);
  }
  return tidy(() => ({
    down: keep(Tensor.from(down, [rank, input])),
    up: keep(transposed(Tensor.from(up, [out, rank]))),
  }));
}

function readFactor(file: SafetensorsFile, key: string, shape: readonly [number, number]): Float32Array {
  const fail = (problem: string): never => {
    throw new UsmLiteError("BAD_ADAPTER", `${file.path}: tensor "${short(key)}" ${problem}`);
  };
  if (!file.has(key)) fail("is missing");
  const found = file.shape(key);
  const matrix = found.length === 3 && found[2] === 1 ? found.slice(0, 2) : found;
  if (matrix.join() !== shape.join()) fail(`has shape (${found.join(", ")}) but rank and layer ask for (${shape.join(", ")})`);
  const values = file.values(key);
  if (!(values instanceof Float32Array)) return fail(`has dtype ${file.dtype(key)}; it must be F32, F16 or BF16`);
  if (!values.every(Number.isFinite)) fail("holds NaN or infinity");
  return values;
}

/** (a, b) as (b, a) */
function transposed(matrix: Tensor): Tensor {
  const [rows, columns] = matrix.shape as [number, number];
  const values = matrix.toArray();
  return Tensor.from(
    Float32Array.from(values, (_, at) => values[(at % rows) * columns + Math.floor(at / rows)] as number),
    [columns, rows],
  );
}

const short = (name: string): string => (name.length > 200 ? `${name.slice(0, 200)}..` : name);
