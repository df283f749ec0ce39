/** What a model costs on disk, layer by layer, against float32. */
import { existsSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { packedShape, packedTensorNames } from "../checkpoint/packed_weights.js";
import { weightFiles } from "../checkpoint/sharded_safetensors.js";
import { modelFiles, outlineModel } from "../models/model_folder.js";

export interface LayerSize {
  /** Checkpoint name of the weight. */
  readonly name: string;
  readonly shape: readonly number[];
  readonly spec: string;
  readonly weights: number;
  /** Codes, masks and scales as stored. */
  readonly bytes: number;
  readonly bitsPerWeight: number;
  /** Of the same weight in float32. */
  readonly percentOfFloat32: number;
}

/** What the weights of a model take, as {@link measureModel} counts them. */
export interface ModelSize {
  /** Weights that compression applies to. */
  readonly linear: Omit<LayerSize, "name" | "shape" | "spec">;
  /** Everything in model.safetensors. */
  readonly file: { readonly bytes: number; readonly parameters: number; readonly percentOfFloat32: number };
  readonly layers: readonly LayerSize[];
}

/**
 * What the weights of a model folder take, layer by layer; reads the header of the file alone.
 * @param language of a model with weights for each language, as {@link loadModel} takes it
 * @throws UsmLiteError FILE_NOT_FOUND, BAD_CONFIG, BAD_CHECKPOINT; INVALID_ARGUMENT for a language that the model does not know
 *
 * @example
 * measureModel("packed").linear.bitsPerWeight;
 */
export function measureModel(folder: string, language?: string): ModelSize {
  const { network, compression, file: opened } = outlineModel(folder, language);
  using file = opened;
  const { specs } = compression;
  const layers = inOrder([...specs.keys(), ...network.blockWeights()]).map((name): LayerSize => {
    const spec = specs.get(name);
    const shape = spec ? packedShape(file, name) : file.shape(name);
    const bytes = (spec ? packedTensorNames(file, name, spec) : [name]).reduce((sum, part) => sum + file.byteLength(part), 0);
    return { name, shape, spec: spec?.text ?? "float32", ...costOf(product(shape), bytes) };
  });
  const total = (key: "weights" | "bytes"): number => layers.reduce((sum, layer) => sum + layer[key], 0);
  const packedNames = new Set([...specs].flatMap(([name, spec]) => [...packedTensorNames(file, name, spec), `${name}_shape`]));
  const parameters =
    layers.filter(({ spec }) => spec !== "float32").reduce((sum, layer) => sum + layer.weights, 0) +
    file.names().reduce((sum, name) => sum + (packedNames.has(name) ? 0 : product(file.shape(name))), 0);
  const bytes = weightFiles(folder).reduce((sum, path) => sum + statSync(path).size, 0);
  return {
    linear: costOf(total("weights"), total("bytes")),
    file: { bytes, parameters, percentOfFloat32: (100 * bytes) / (4 * parameters) },
    layers,
  };
}

/** A table for people. */
export function formatSizeReport({ layers, linear, file }: ModelSize): string {
  const rows = layers.map((layer) => [
    layer.name,
    layer.shape.join("x"),
    layer.spec,
    String(layer.bytes),
    layer.bitsPerWeight.toFixed(3),
    `${layer.percentOfFloat32.toFixed(2)} %`,
  ]);
  const header = ["weight", "shape", "spec", "bytes", "bits/weight", "of float32"];
  const widths = header.map((title, column) => Math.max(title.length, ...rows.map((row) => (row[column] as string).length)));
  const line = (row: readonly string[]): string =>
    row.map((cell, column) => (column < 3 ? cell.padEnd(widths[column] as number) : cell.padStart(widths[column] as number))).join("  ");
  return [
    line(header),
    ...rows.map(line),
    "",
    `linear weights: ${linear.weights} weights in ${linear.bytes} bytes, ${linear.bitsPerWeight.toFixed(3)} bits per weight, ` +
      `${linear.percentOfFloat32.toFixed(2)} % of float32`,
    `whole file: ${file.parameters} parameters in ${file.bytes} bytes, ${file.percentOfFloat32.toFixed(2)} % of float32`,
    "",
  ].join("\n");
}

/** The report of the model in `folder`, or of every one of the models in it, which `many-sizes` makes. */
export function formatSizeReports(folder: string): string {
  return modelFolders(folder)
    .map((one) => `${one === folder ? "" : `${one}\n`}${formatSizeReport(measureModel(one))}`)
    .join("\n");
}

/** `folder` when it is a model, otherwise the models in it. */
export function modelFolders(folder: string): readonly string[] {
  if (existsSync(join(folder, modelFiles.config))) return [folder];
  return inOrder(readdirSync(folder))
    .map((name) => join(folder, name))
    .filter((inner) => existsSync(join(inner, modelFiles.config)));
}

const inOrder = (names: readonly string[]): string[] => [...new Set(names)].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));

const product = (shape: readonly number[]): number => shape.reduce((result, extent) => result * extent, 1);

/** What `bytes` are for so many weights. */
export const costOf = (weights: number, bytes: number): Omit<LayerSize, "name" | "shape" | "spec"> => ({
  weights,
  bytes,
  bitsPerWeight: (8 * bytes) / weights,
  percentOfFloat32: (100 * bytes) / (4 * weights),
});
