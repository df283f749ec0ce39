/** From a float model folder to a packed one: what `usm-lite compress` does. */
import { existsSync } from "node:fs";
import { join, resolve } from "node:path";
import { isDeepStrictEqual } from "node:util";
import { makeFolder } from "../checkpoint/atomic_folder.js";
import { checkFormat, type CompressedTensorsFormat } from "../checkpoint/compressed_tensors.js";
import { readJsonFile, writeJsonFile } from "../checkpoint/json_file.js";
import { OutputLock } from "../checkpoint/output_lock.js";
import { readManifest } from "../data/manifest.js";
import { digestManifest } from "../data/manifest_digest.js";
import { UsmLiteError } from "../errors.js";
import { checkTrainableOnGpu, placeForTraining } from "../models/device_training.js";
import { loadModel, outlineModel } from "../models/model_folder.js";
import { checkFloat } from "./float_model.js";
import { tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { TrainableModel } from "../train/trainable_model.js";
import { chooseTrainingDevice, runTraining, type TrainingDevice } from "../train/training_device.js";
import type { TrainingModifier } from "../train/training_modifier.js";
import { BlockwiseTraining } from "./blockwise_training.js";
import { layersOf, planStages, type PlannedStage } from "./compression_plan.js";
import { changedLayer, CompressionState, floatSpec } from "./compression_state.js";
import { exportInOneShot, exportModel, exportVariants } from "./export.js";
import {
  adoptTraining,
  calibrationBatches,
  fineTuner,
  parameterSettings,
  trainableSpeech,
  trainingModifiers,
  type TrainableSpeech,
} from "./fine_tuning.js";
import { layerName } from "./layer_selection.js";
import { needsTrainingSpeech, type Recipe, type Training } from "./recipe.js";
import { modifierError, type CalibrationSetup } from "./modifier.js";
import { writeRunReport } from "./report/run_report.js";
import { chooseSpecs, chosenSpecs, forgetSpecs, restoreStage, saveStage, stageFile } from "./stage_file.js";
import { StageLog } from "./stage_log.js";

export interface CompressModelOptions {
  /** Folder of the float model. */
  readonly model: string;
  readonly recipe: Recipe;
  /** Manifest of training speech; needed when the recipe trains or calibrates. */
  readonly manifest: string | undefined;
  /**
   * Code of the language that is spoken, such as "en": what sequence-to-sequence models of several languages are to be told. Of a model with
   * weights and a vocabulary for each language, the one that the packed model is for, by default its own.
   */
  readonly language?: string | undefined;
  /** Folder to make. Checkpoints, metrics and features of fine-tuning lie in `OUT.run`, which may be deleted afterwards. */
  readonly out: string;
  /** Layout of compressed-tensors that all packed weights must have, for programs that read no other; absent: that of docs/format.md. */
  readonly format?: CompressedTensorsFormat | undefined;
  /** Where stages with training compute; the others compute on the CPU. A run may go on on another device. Default "cpu". */
  readonly device?: TrainingDevice;
  readonly onStatus?: (sentence: string) => void;
}

/**
 * Compresses a model. Returns false when a signal stopped fine-tuning: called again it goes on.
 * @throws UsmLiteError BAD_RECIPE, BAD_CHECKPOINT, BAD_MANIFEST, INVALID_ARGUMENT when `out` exists, OUTPUT_IN_USE while another run
 * makes it, UNSUPPORTED_SPEC for a spec that `format` cannot hold. With device "cuda" also UNSUPPORTED_MODEL for what the GPU does not
 * train, NO_GPU, DRIVER_TOO_OLD: before
 * anything is computed
 *
 * @example
 * await compressModel({ model: "float", recipe: readRecipe("recipes/gptq-int4.yaml"), manifest: "speech.jsonl", out: "packed" });
 */
export async function compressModel(options: CompressModelOptions): Promise<boolean> {
  const { recipe, manifest, out, format, device: wanted = "cpu", onStatus = () => {} } = options;
  refuseExisting(out);
  if (manifest !== undefined) readManifest(manifest); // a bad one is told before a run begins that is bound to it
  if (!needsTrainingSpeech(recipe)) {
    const outline = outlineModel(options.model, options.language);
    using file = outline.file;
    checkFloat(outline.compression, options.model);
    using _lock = lockOutput(out);
    const { network, language } = outline;
    exportInOneShot(file, { from: options.model, to: out, language, stages: planStages(recipe, network), format });
    return true;
  }
  if (!manifest) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `${recipe.source} trains or calibrates, which needs --data with a manifest of training speech`,
    );
  }
  const model = loadModel(options.model, { language: options.language });
  checkFloat(model.compression, options.model);
  using _lock = lockOutput(out);
  const run = `${out}.run`;
  let stages = planStages(recipe, model.network);
  const trains = stages.some(({ stage }) => stage.training);
  const device = trains ? chooseTrainingDevice(wanted, () => checkTrainableOnGpu(model.network, options.model), onStatus) : "cpu";
  if (format) checkRun(stages, model.network.parameters(), format);
  const speech = trainableSpeech(model, manifest, options.language);
  // Before anything of an earlier run is read: it may be another recipe's.
  if (existsSync(run)) claimRunFolder(run, options);
  using state = new CompressionState(model.network.parameters());
  for (const [index, { name }] of recipe.stages.entries()) {
    const file = stageFile(run, index, name);
    const finished = existsSync(file);
    // A stage that was killed chooses again, from what it was given at first.
    if (!finished) forgetSpecs(run, name);
    stages = planStages(recipe, model.network, chosenSpecs(run));
    const planned = stages[index] as PlannedStage;
    if (finished) {
      restoreStage(file, state, model.network.buffers(), planned.plan);
      speech.network.weightsChanged?.();
      continue;
    }
    const last = index + 1 === stages.length;
    const outcome = await runStage(planned, { options, device, speech, state, run, last, onStatus });
    if (outcome === "stopped") return false;
    if (outcome === "written") {
      writeRunReport(run);
      return true;
    }
    if (!last) saveStage(file, state, model.network.buffers());
  }
  exportModel(model.network, { from: options.model, to: out, language: model.language, plan: state.plan, state, format });
  writeRunReport(run, out);
  return true;
}

function refuseExisting(out: string): void {
  if (!existsSync(out)) return;
  throw new UsmLiteError("INVALID_ARGUMENT", `${out} exists; name a folder that does not, so that nothing is overwritten`);
}

/** Of the model and of the folder of its run. */
function lockOutput(out: string): OutputLock {
  const lock = OutputLock.beside(out);
  try {
    refuseExisting(out); // what another run has made meanwhile
    return lock;
  } catch (error) {
    lock[Symbol.dispose]();
    throw error;
  }
}

interface StageSetup {
  readonly options: CompressModelOptions;
  readonly device: "cpu" | "cuda";
  readonly speech: TrainableSpeech;
  readonly state: CompressionState;
  /** Folder of the run. */
  readonly run: string;
  /** No stage follows. */
  readonly last: boolean;
  readonly onStatus: (sentence: string) => void;
}

/** What became of a stage: a signal stopped it, the weights are what it makes of them, or it wrote its models itself. */
type StageOutcome = "stopped" | "done" | "written";

async function runStage(planned: PlannedStage, setup: StageSetup): Promise<StageOutcome> {
  const { stage, weights } = planned;
  if (stage.training) return trainStage(planned, stage.training, setup);
  const { speech, state, run } = setup;
  claimRunFolder(run, setup.options);
  const log = new StageLog(run, stage.name);
  let { plan } = planned;
  for (const [modifier, layers] of weights) {
    const specs = new Map([...plan].filter(([name]) => layers.includes(name)));
    const calibration: CalibrationSetup = {
      model: speech.network,
      state,
      layers,
      specs,
      onStatus: setup.onStatus,
      record: (layer) => log.write(modifier.type, layer),
      calibrationBatches: (choice) => calibrationBatches(speech, choice, featureFolder(setup.options.recipe) ?? `${run}/features`),
    };
    try {
      for (const name of modifier.compressWeight ? layers : []) {
        const layer = changedLayer(state.layer(name), { spec: specs.get(name) ?? floatSpec });
        tidy(() => state.update(name, { spec: layer.spec, ...modifier.compressWeight?.(layer) }));
      }
      if (modifier.chooseSpecs) {
        chooseSpecs(run, stage.name, await modifier.chooseSpecs(calibration));
        plan = planStages(setup.options.recipe, speech.model.network, chosenSpecs(run)).find((one) => one.stage === stage)?.plan ?? plan;
      }
      await modifier.calibrate?.(calibration);
    } catch (cause) {
      throw modifierError(modifier, cause);
    }
    speech.network.weightsChanged?.();
  }
  for (const name of layersOf(planned)) state.update(name, { spec: plan.get(name) ?? floatSpec });
  return "done";
}

async function trainStage(planned: PlannedStage, training: Training, setup: StageSetup): Promise<StageOutcome> {
  const { options, speech, state, run, onStatus } = setup;
  const { recipe } = options;
  const folder = recipe.stages.length === 1 ? run : join(run, planned.stage.name);
  if (training.blockwise) {
    const blockwise = new BlockwiseTraining(
      planned,
      { ...training, blockwise: training.blockwise },
      { device: setup.device, speech, state, onStatus },
    );
    claimRunFolder(run, options);
    return (await blockwise.run(folder, { features: `${run}/features`, log: new StageLog(run, planned.stage.name) })) ? "done" : "stopped";
  }
  const placed = setup.device === "cuda" ? placeForTraining(speech.network, options.model) : undefined;
  const modifiersOf = (network: TrainableModel): readonly TrainingModifier[] =>
    trainingModifiers(planned, { speech: { ...speech, network }, state, training, onStatus });
  let modifiers = modifiersOf(placed ?? speech.network);
  checkVariants(planned, modifiers, setup.last);
  const settingsOf = parameterSettings(planned.stage, speech.network);
  claimRunFolder(run, options);
  const trainerOf = await fineTuner(speech, training, { folder, settingsOf, features: `${run}/features`, onStatus });
  const { trainer, result } = await runTraining(setup.device, {
    cpu: () => trainerOf(speech.network, placed ? (modifiers = modifiersOf(speech.network)) : modifiers),
    gpu: () => ({ trainer: trainerOf(placed as TrainableModel, modifiers), release: () => placed?.dispose() }),
    resume: true,
    onResume: (step) => onStatus(`continuing from step ${step} of ${training.steps}`),
  });
  try {
    if (!result.completed) return "stopped";
    adoptTraining(trainer, { modifiers, planned, state, log: new StageLog(run, planned.stage.name) });
    return tidy((): StageOutcome => {
      const variants = modifiers.flatMap((modifier) => modifier.variants?.() ?? []);
      if (variants.length === 0) return "done";
      const { network, language } = speech.model;
      exportVariants(network, variants, { from: options.model, to: options.out, language, state });
      return "written";
    });
  } finally {
    trainer.dispose();
  }
}

/** Where the recipe keeps features: calibration needs no second copy of those of training. */
const featureFolder = ({ stages }: Recipe): string | undefined =>
  stages.find(({ training }) => training?.features !== undefined)?.training?.features;

/** Several models can be written but not go on, and what codes their weights must be alone. @throws UsmLiteError BAD_RECIPE */
function checkVariants({ weights, stage }: PlannedStage, modifiers: readonly TrainingModifier[], last: boolean): void {
  if (!modifiers.some(({ variants }) => variants)) return;
  const [several] = [...weights].find(([{ type }]) => type === "many-sizes") ?? [];
  const source = several?.source ?? stage.name;
  if (!last) throw new UsmLiteError("BAD_RECIPE", `${source}: many-sizes gives several models; its stage must be the last`);
  const coded = new Set(several && weights.get(several));
  for (const [{ type, source: other }, names] of weights) {
    const twice = type === "sparsity" || type === "quantization" ? names.find((name) => coded.has(name)) : undefined;
    if (twice) throw new UsmLiteError("BAD_RECIPE", `${other}: "${layerName(twice)}" is coded by many-sizes; give ${type} other targets`);
  }
}

/** Before hours of training, as far as specs are known. @throws UsmLiteError UNSUPPORTED_SPEC, INVALID_ARGUMENT for `many-sizes` */
function checkRun(stages: readonly PlannedStage[], parameters: ReadonlyMap<string, Tensor>, format: CompressedTensorsFormat): void {
  const several = stages.flatMap(({ stage }) => stage.modifiers).find(({ type }) => type === "many-sizes");
  if (several)
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `${several.source}: many-sizes writes models of several specs; compress one of them for ${format}`,
    );
  checkFormat(stages.at(-1)?.plan ?? new Map(), { shapeOf: (name) => parameters.get(name)?.shape ?? [], format });
}

/**
 * Notes in the run's folder what it was begun with: its checkpoints are good for nothing else.
 * @throws UsmLiteError INVALID_ARGUMENT when it was begun with another model, recipe or manifest, or the manifest held something else
 */
function claimRunFolder(run: string, { model, recipe, manifest = "", language }: CompressModelOptions): void {
  const path = join(run, "run.json");
  const origin: unknown = JSON.parse(
    JSON.stringify({ model: resolve(model), manifest: resolve(manifest), recipe: recipe.document, language }),
  );
  const speech = manifest === "" ? null : digestManifest(manifest).sha256;
  if (!existsSync(path)) {
    makeFolder(run);
    writeJsonFile(path, { ...(origin as object), speech });
    return;
  }
  const { speech: begunWith = speech, ...begun } = readJsonFile(path, "BAD_CONFIG"); // runs of before it was noted go on
  const refuse = (what: string, remedy: string): never => {
    throw new UsmLiteError("INVALID_ARGUMENT", `${run} holds a run with another ${what}; ${remedy}, or name another output folder`);
  };
  if (!isDeepStrictEqual(begun, origin)) refuse("model, recipe or manifest", "delete it");
  if (begunWith !== speech) refuse(`content of ${manifest}`, "put back what the manifest held, delete the run");
}
