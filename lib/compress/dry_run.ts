/** What a recipe would make of a model, without doing it: specs, sizes, and about how long it would take. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { checkFormat, type CompressedTensorsFormat } from "../checkpoint/compressed_tensors.js";
import { readManifest } from "../data/manifest.js";
import { outlineModel } from "../models/model_folder.js";
import { missingTokenizer } from "../models/transcript_encoder.js";
import { checkFloat } from "./float_model.js";
import { matmul } from "../ops/matmul.js";
import { weightMatrixShape } from "../quant/weight_matrix.js";
import type { WeightSpec } from "../quant/weight_spec.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { tokenizerFiles } from "../text/load_tokenizer.js";
import { blockOf } from "./calibration.js";
import { planStages, type PlannedStage } from "./compression_plan.js";
import { predictFile, type Prediction } from "./predicted_file.js";
import { needsTrainingSpeech, type Recipe } from "./recipe.js";
import { costOf, formatSizeReport, type LayerSize, type ModelSize } from "./size_report.js";

export interface DryRunOptions {
  /** Folder of the float model. */
  readonly model: string;
  readonly recipe: Recipe;
  /** Manifest of training speech: its mean duration counts for calibration; without one 5 seconds. */
  readonly manifest: string | undefined;
  /** As compressing is told. */
  readonly language?: string | undefined;
  /** As compressing is told. */
  readonly format?: CompressedTensorsFormat | undefined;
}

/** What a recipe would do: sizes of layers, and seconds of stages. */
export interface DryRun {
  /** As {@link measureModel} would find it. */
  readonly size: ModelSize;
  readonly stages: readonly { readonly name: string; readonly seconds: number }[];
  /** Modifiers that choose specs when they have heard speech: those of {@link DryRun.size} are the most that layers may become. */
  readonly undecided: readonly string[];
}

/** Products of a step, forward and backward, in those of a forward pass. */
const passesOfTraining = 3;

/** Share of a pass that linear layers take, roughly; attention, convolutions, norms and losses take the rest. */
const linearShare = 0.4;

/** Hidden frames per second of audio, of all encoders at most. */
const framesPerSecond = 25;

/**
 * What compressing with a recipe would give and take, without reading weights.
 * @throws UsmLiteError BAD_RECIPE, BAD_CHECKPOINT, BAD_TOKENIZER, FILE_NOT_FOUND, UNSUPPORTED_SPEC, as compressing would
 *
 * @example
 * process.stdout.write(formatDryRun(dryRun({ model: "float", recipe: readRecipe("recipe.yaml"), manifest: undefined })));
 */
export function dryRun({ model, recipe, manifest, language, format }: DryRunOptions): DryRun {
  const { network, compression, file: opened } = outlineModel(model, language);
  using file = opened;
  checkFloat(compression, model);
  if (needsTrainingSpeech(recipe) && !tokenizerFiles.some((name) => existsSync(join(model, name)))) throw missingTokenizer(model);
  const stages = planStages(recipe, network);
  const plan = stages.at(-1)?.plan ?? new Map<string, WeightSpec>();
  if (format) checkFormat(plan, { shapeOf: (name) => file.shape(name), format });
  const utterances = manifest ? readManifest(manifest) : [];
  const secondsPerUtterance = utterances.length > 0 ? utterances.reduce((sum, { duration }) => sum + duration, 0) / utterances.length : 5;
  const work: Work = {
    multiplyAddsPerSecond: measuredSpeed(),
    secondsPerUtterance,
    weights: network.blockWeights().reduce((sum, name) => sum + product(file.shape(name)), 0),
    shapeOf: (name) => file.shape(name),
  };
  return {
    size: predictedSize({ file, network, plan, format, inOneShot: !needsTrainingSpeech(recipe) }),
    stages: stages.map((planned) => ({ name: planned.stage.name, seconds: secondsOf(planned, work) })),
    undecided: recipe.stages.flatMap(({ modifiers }) =>
      modifiers.filter(({ chooseSpecs }) => chooseSpecs).map(({ type, source }) => `${type} (${source})`),
    ),
  };
}

/**
 * Two tables for people.
 *
 * @example
 * const { length } = formatDryRun(dryRun({ model: "float", recipe: readRecipe("recipes/gptq-int4.yaml"), manifest: undefined }));
 */
export function formatDryRun({ size, stages, undecided }: DryRun): string {
  return [
    formatSizeReport(size).trimEnd(),
    ...undecided.map((modifier) => `${modifier} chooses specs in view of speech: those above are the most that its layers may become`),
    "",
    ...stages.map(({ name, seconds }) => `stage ${name}: ${duration(seconds)} on this machine`),
    "",
  ].join("\n");
}

function duration(seconds: number): string {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `about ${Math.round(seconds)} s`;
  return seconds < 5400 ? `about ${Math.round(seconds / 60)} min` : `about ${(seconds / 3600).toFixed(1)} h`;
}

function predictedSize(prediction: Prediction): ModelSize {
  const { file, network, plan } = prediction;
  const { bytes, parameters, bytesOf } = predictFile(prediction);
  const names = [...new Set([...network.blockWeights(), ...plan.keys()])].sort((a, b) => a.localeCompare(b, "en", { numeric: true }));
  const layers = names.map((name): LayerSize => {
    const shape = file.shape(name);
    return { name, shape, spec: plan.get(name)?.text ?? "float32", ...costOf(product(shape), bytesOf.get(name) as number) };
  });
  const [weights, linearBytes] = layers.reduce(([count, sum], layer) => [count + layer.weights, sum + layer.bytes], [0, 0]);
  return {
    linear: costOf(weights, linearBytes),
    file: { bytes, parameters, percentOfFloat32: (100 * bytes) / (4 * parameters) },
    layers,
  };
}

interface Work {
  readonly multiplyAddsPerSecond: number;
  readonly secondsPerUtterance: number;
  /** Of the blocks. */
  readonly weights: number;
  readonly shapeOf: (name: string) => readonly number[];
}

function secondsOf({ stage, weights }: PlannedStage, work: Work): number {
  const pass = (audioSeconds: number): number => (audioSeconds * framesPerSecond * work.weights) / linearShare;
  const { training } = stage;
  let multiplyAdds = training ? training.steps * passesOfTraining * pass(training.batchSeconds) : 0;
  for (const [{ speech }, names] of weights) {
    if (!speech || training) continue;
    const blocks = new Set(names.map(blockOf)).size;
    const audioSeconds = speech.utterances * work.secondsPerUtterance;
    multiplyAdds += (speech.sequential ? blocks : 1) * pass(audioSeconds);
    for (const name of names) {
      const [rows, columns] = weightMatrixShape(work.shapeOf(name));
      // Second moments of the inputs, two triangular passes over them, and the corrections of all rows.
      multiplyAdds += audioSeconds * framesPerSecond * columns ** 2 + columns ** 3 + rows * columns ** 2;
    }
  }
  return multiplyAdds / work.multiplyAddsPerSecond;
}

/** Of dense products of matrices as large as layers are. */
function measuredSpeed(): number {
  const size = 384;
  return tidy(() => {
    const matrix = Tensor.from(new Float32Array(size * size).fill(0.5), [size, size]);
    let least = Infinity;
    for (let run = 0; run < 4; run++) {
      const started = performance.now();
      matmul(matrix, matrix).dispose();
      least = Math.min(least, performance.now() - started);
    }
    return (1000 * size ** 3) / least;
  });
}

const product = (shape: readonly number[]): number => shape.reduce((result, extent) => result * extent, 1);
