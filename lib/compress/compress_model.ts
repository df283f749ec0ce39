/** From a float model folder to a packed one: what `usm-lite compress` does. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { LogMel } from "../audio/log_mel.js";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { readJsonFile, writeJsonFile } from "../checkpoint/json_file.js";
import { FeatureCache } from "../data/feature_cache.js";
import { readManifest } from "../data/manifest.js";
import { SpeechBatches } from "../data/speech_batches.js";
import { UsmLiteError } from "../errors.js";
import { LasrForCtc } from "../models/lasr/lasr_for_ctc.js";
import type { Compression } from "../models/compression_config.js";
import { loadModel, outlineModel, type SpeechModel } from "../models/model_folder.js";
import { isPruned } from "../sparse/schedule.js";
import type { Tensor } from "../tensor/tensor.js";
import { warmupCosine } from "../train/schedule.js";
import { Trainer } from "../train/trainer.js";
import { WeightCompression } from "../train/weight_compression.js";
import { planCompression, type CompressionPlan } from "./compression_plan.js";
import { exportInOneShot, exportModel } from "./export.js";
import type { FineTuning, Recipe } from "./recipe.js";

export interface CompressModelOptions {
  /** Folder of the float model. */
  readonly model: string;
  readonly recipe: Recipe;
  /** Name of the recipe's file, for messages. */
  readonly recipeSource: string;
  /** Manifest of training speech; needed when the recipe has fine-tuning. */
  readonly manifest: string | undefined;
  /** Folder to make. Checkpoints, metrics and features of fine-tuning lie in `OUT.run`, which may be deleted afterwards. */
  readonly out: string;
  readonly onStatus?: (sentence: string) => void;
}

/**
 * Compresses a model. Returns false when a signal stopped fine-tuning: called again it goes on.
 * @throws UsmLiteError BAD_RECIPE, BAD_CHECKPOINT, BAD_MANIFEST, INVALID_ARGUMENT when `out` exists
 */
export async function compressModel(options: CompressModelOptions): Promise<boolean> {
  const { recipe, recipeSource, manifest, out, onStatus = () => {} } = options;
  if (existsSync(out)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${out} exists; name a folder that does not, so that nothing is overwritten`);
  }
  if (recipe.fineTuning && !manifest) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${recipeSource} has fineTuning, which needs --data with a manifest of training speech`);
  }
  if (!recipe.fineTuning || !manifest) {
    const outline = outlineModel(options.model);
    using file = outline.file;
    checkFloat(outline.compression, options.model);
    const plan = planCompression(recipe, outline.network, recipeSource);
    exportInOneShot(file, { from: options.model, to: out, plan });
    return true;
  }
  const model = loadModel(options.model);
  checkFloat(model.compression, options.model);
  const plan = planCompression(recipe, model.network, recipeSource);
  checkMaskStart(recipe, plan, recipeSource);
  const write = (weights: ReadonlyMap<string, Tensor>, masks: ReadonlyMap<string, Tensor>): void =>
    exportModel(model.network, { from: options.model, to: out, plan, weights, masks });

  const { network, frontEnd } = model;
  if (!(network instanceof LasrForCtc && frontEnd instanceof LogMel)) {
    throw new UsmLiteError(
      "UNSUPPORTED_MODEL",
      `${recipeSource} has fineTuning, which is supported for lasr_ctc models; leave it out to compress ${options.model} in one shot`,
    );
  }
  const compression = new WeightCompression(network, plan, {
    masks: recipe.mask,
    stopScaleGradient: recipe.stopScaleGradient,
  });
  claimRunFolder(`${out}.run`, options, manifest);
  const trainer = await fineTuner({ ...model, network, frontEnd }, recipe.fineTuning, compression, manifest, `${out}.run`, onStatus);
  if (trainer.resume()) onStatus(`continuing from step ${trainer.steps} of ${recipe.fineTuning.steps}`);
  const { completed } = await trainer.run({ handleSignals: true });
  if (completed) write(trainer.weights(), compression.masks());
  trainer.dispose();
  compression.dispose();
  return completed;
}

function checkFloat({ specs }: Compression, folder: string): void {
  if (specs.size === 0) return;
  throw new UsmLiteError("BAD_CHECKPOINT", `${folder} is compressed already; compress the float model it was made from`);
}

/** Weights that training never pruned cannot be packed as sparse ones: better said before training than after. */
function checkMaskStart({ mask, fineTuning }: Recipe, plan: CompressionPlan, source: string): void {
  const sparse = [...plan.values()].some(({ sparsity }) => sparsity);
  if (!sparse || !fineTuning || isPruned(mask, fineTuning.steps - 1)) return;
  throw new UsmLiteError(
    "BAD_RECIPE",
    `${source}: key "mask.start" must be below fineTuning.steps, ${fineTuning.steps}; otherwise nothing is pruned in training`,
  );
}

/**
 * Notes in the run's folder what it was begun with: its checkpoints are good for nothing else.
 * @throws UsmLiteError INVALID_ARGUMENT when it was begun with another model, recipe or manifest
 */
function claimRunFolder(run: string, { model, recipe }: CompressModelOptions, manifest: string): void {
  const path = join(run, "run.json");
  const origin: unknown = JSON.parse(JSON.stringify({ model: resolve(model), manifest: resolve(manifest), recipe }));
  if (!existsSync(path)) {
    makeFolder(run);
    writeJsonFile(path, origin);
  } else if (!isDeepStrictEqual(readJsonFile(path, "BAD_CONFIG"), origin)) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `${run} holds a run with another model, recipe or manifest; delete it, or name another output folder`,
    );
  }
}

async function fineTuner(
  { network, tokenizer, frontEnd, folder }: SpeechModel & { network: LasrForCtc; frontEnd: LogMel },
  settings: FineTuning,
  compression: WeightCompression,
  manifest: string,
  run: string,
  onStatus: (sentence: string) => void,
): Promise<Trainer> {
  if (!tokenizer) throw new UsmLiteError("BAD_TOKENIZER", `${folder} has no tokenizer.json, which fine-tuning needs`);
  const utterances = readManifest(manifest);
  const speeds = settings.speedPerturbation ? [0.9, 1, 1.1] : [1];
  const cache = new FeatureCache(settings.features ?? `${run}/features`, frontEnd.config);
  onStatus(`computing features of ${utterances.length} utterances`);
  await cache.prepare(utterances, speeds);
  const batches = new SpeechBatches(utterances, (text) => tokenizer.encode(text), cache, {
    seed: settings.seed,
    batchSeconds: settings.batchSeconds,
    speeds,
    ...(settings.specAugment ? { specAugment: { frequencyMaskShare: 0.1, timeMasksPerFrame: 0.005, maximumTimeMasks: 4 } } : {}),
  });
  return new Trainer(network, batches, {
    folder: run,
    totalSteps: settings.steps,
    schedule: warmupCosine({
      peak: settings.learningRate,
      warmupSteps: Math.min(settings.warmUpSteps, settings.steps - 1),
      totalSteps: settings.steps,
      final: settings.learningRate / 100,
    }),
    seed: settings.seed,
    optimizer: { weightDecay: settings.weightDecay },
    compression,
    ...(settings.emaDecay > 0 ? { averageDecay: settings.emaDecay } : {}),
  });
}
