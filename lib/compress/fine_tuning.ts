/** The stages of a recipe that train: modifiers in the forward pass of fine-tuning on speech. */
import { join } from "node:path";
import { LogMel } from "../audio/log_mel.js";
import { readPreprocessorConfig } from "../audio/preprocessor_config.js";
import { readJsonFile } from "../checkpoint/json_file.js";
import { shuffled } from "../data/batching.js";
import { FeatureCache, type FrontEndSource } from "../data/feature_cache.js";
import { readManifest } from "../data/manifest.js";
import { SpeechBatches } from "../data/speech_batches.js";
import { windowSecondsOf, withinWindow } from "../data/window_limit.js";
import { copyBeside } from "../device/device_parameter.js";
import { UsmLiteError } from "../errors.js";
import { isOnGpu } from "../models/device_training.js";
import { modelFiles, type SpeechModel } from "../models/model_folder.js";
import { trainableNetwork } from "../models/trainable.js";
import { transcriptEncoder, type TranscriptEncoder } from "../models/transcript_encoder.js";
import { relativeMeanSquare } from "../ops/mean_square.js";
import { RandomStream } from "../ops/random_stream.js";
import { applyMask } from "../sparse/prune.js";
import { keep, tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { augmentationOf } from "../train/augmentation_config.js";
import type { ParameterSettings } from "../train/optimizer.js";
import { warmupCosine } from "../train/schedule.js";
import { Trainer } from "../train/trainer.js";
import type { TrainerOptions } from "../train/trainer_options.js";
import type { TrainableModel, TrainingBatch } from "../train/trainable_model.js";
import type { TrainingModifier } from "../train/training_modifier.js";
import { WeightPruning, type MasksInForce } from "../train/weight_pruning.js";
import { WeightQuantization } from "../train/weight_quantization.js";
import { effectiveWeight } from "./calibration.js";
import { layersOf, type PlannedStage } from "./compression_plan.js";
import { floatSpec, type CompressionState } from "./compression_state.js";
import { matcher } from "./layer_selection.js";
import { modifierTypes } from "./modifiers/index.js";
import { modifierError } from "./modifier.js";
import type { StageLog } from "./stage_log.js";
import type { Stage, Training } from "./recipe.js";

/** What `specAugment: true` means: a compressed model, which has less room than it had, learns best from masks that are few and narrow. */
const fewMasks = { frequencyMaskShare: 0.1, timeMasksPerFrame: 0.005, maximumTimeMasks: 4 };

/** A model that can be trained, on speech that it can be trained on. */
export interface TrainableSpeech {
  readonly model: SpeechModel;
  readonly network: TrainableModel;
  /** Manifest of training speech. */
  readonly manifest: string;
  /** All that the network is to write of a transcript. */
  readonly encode: TranscriptEncoder;
}

/**
 * @param language what sequence-to-sequence models of several languages are to be told
 * @throws UsmLiteError UNSUPPORTED_MODEL, BAD_TOKENIZER; INVALID_ARGUMENT for a language that the model does not know, or lacks
 */
export function trainableSpeech(model: SpeechModel, manifest: string, language?: string): TrainableSpeech {
  const network = trainableNetwork(model);
  return { model, network, manifest, encode: transcriptEncoder(model, language) };
}

/** Batches of the speech, or of `utterances` of it, whose features lie in `cacheFolder`. */
export async function speechBatches(
  { model, manifest, encode }: TrainableSpeech,
  settings: Pick<Training, "seed" | "batchSeconds" | "specAugment" | "noise" | "speedPerturbation"> &
    Partial<Pick<Training, "labelSmoothing">>,
  cacheFolder: string,
  onStatus: (sentence: string) => void,
  heard = readManifest(manifest),
): Promise<SpeechBatches> {
  const { network, frontEnd } = model;
  const windowSeconds = windowSecondsOf(frontEnd);
  const filled = network.kind === "sequence-to-sequence" && network.fixedWindow;
  const speeds = settings.speedPerturbation ? [0.9, 1, 1.1] : [1];
  const utterances = withinWindow(heard, windowSeconds, speeds, onStatus);
  const cache = featureCacheOf(model, cacheFolder);
  onStatus(`computing features of ${utterances.length} utterances`);
  await cache.prepare(utterances, speeds);
  return new SpeechBatches(utterances, encode, cache, {
    seed: settings.seed,
    batchSeconds: settings.batchSeconds,
    speeds,
    ...(filled && windowSeconds ? { windowSeconds } : {}),
    ...(settings.labelSmoothing ? { labelSmoothing: settings.labelSmoothing } : {}),
    ...augmentationOf({ specAugment: settings.specAugment === true ? fewMasks : settings.specAugment || undefined, noise: settings.noise }),
  });
}

/** Features as the model takes them, kept in a folder. */
export const featureCacheOf = (model: SpeechModel, folder: string): FeatureCache => new FeatureCache(folder, frontEndSource(model));

function frontEndSource({ frontEnd, folder }: SpeechModel): FrontEndSource {
  if (frontEnd instanceof LogMel) return frontEnd.config;
  const model = readJsonFile(join(folder, modelFiles.config), "BAD_CONFIG");
  return { model, preprocessor: readPreprocessorConfig(folder).json };
}

/** Batches of `count` utterances drawn from the speech, without augmentation. */
export async function calibrationBatches(
  speech: TrainableSpeech,
  { utterances: count, seed }: { readonly utterances: number; readonly seed: number },
  cacheFolder: string,
): Promise<readonly TrainingBatch[]> {
  const settings = { seed, batchSeconds: 60, specAugment: false, noise: undefined, speedPerturbation: false };
  const drawn = shuffled(readManifest(speech.manifest), new RandomStream(seed)).slice(0, count);
  const batches = await speechBatches(speech, settings, cacheFolder, () => {}, drawn);
  return Array.from({ length: batches.count(0) }, (_, index) => ({ ...batches.batch(0, index), plain: true }));
}

/**
 * The modifiers of a stage as a trainer takes them. What earlier stages pruned or quantized stays so, with their masks, scales and
 * activations, where no modifier of this stage says otherwise.
 */
export function trainingModifiers(
  planned: PlannedStage,
  setup: {
    readonly speech: TrainableSpeech;
    readonly state: CompressionState;
    readonly training: Training;
    readonly onStatus: (sentence: string) => void;
  },
): readonly TrainingModifier[] {
  const { stage, weights, plan } = planned;
  const { state, training, speech, onStatus } = setup;
  const model = speech.network;
  if (training.labelSmoothing > 0 && speech.model.network.kind !== "sequence-to-sequence") {
    throw new UsmLiteError(
      "BAD_RECIPE",
      `${stage.placeInTraining("labelSmoothing")}: labelSmoothing is for sequence-to-sequence models; leave it out`,
    );
  }
  const onGpu = isOnGpu(model);
  const masks: MasksInForce = new Map(
    [...layersOf(planned)].flatMap((name) => {
      const { mask } = state.coding(name);
      return entry(name, mask && onGpu ? keep(copyBeside(model.parameters().get(name) as Tensor, mask)) : mask);
    }),
  );
  const placed = onGpu ? [...masks.values()] : [];
  const pruned = new Set([...weights].flatMap(([{ type }, names]) => (type === "sparsity" ? names : [])));
  const left = new Map([...masks.keys()].filter((name) => !pruned.has(name)).flatMap((name) => entry(name, plan.get(name)?.sparsity)));
  const order = (type: string): number => modifierTypes.findIndex((one) => one.type === type);
  const made = [...weights]
    .filter(([{ train }, layers]) => train && layers.length > 0)
    .sort(([a], [b]) => order(a.type) - order(b.type))
    .map(([modifier, layers]) => {
      const specs = new Map(layers.flatMap((name) => entry(name, plan.get(name))));
      try {
        return modifier.train?.({
          model,
          state,
          layers,
          specs,
          masks,
          onStatus,
          totalSteps: training.steps,
          seed: training.seed,
          modelFolder: speech.model.folder,
          language: speech.model.language,
        }) as TrainingModifier;
      } catch (cause) {
        throw modifierError(modifier, cause);
      }
    });
  const kept = left.size > 0 ? [new WeightPruning(model, left, { schedule: { kind: "frozen" }, masks })] : [];
  const coded = new Set([...weights].flatMap(([{ type, specOf }, names]) => (specOf && type !== "sparsity" ? names : [])));
  const rounded = new Map([...plan].filter(([name, spec]) => !coded.has(name) && spec.bits !== 32));
  const initial = new Map([...rounded.keys()].map((name) => [name, state.coding(name)] as const).filter(([, { scale }]) => scale));
  const quantized =
    rounded.size > 0 ? [new WeightQuantization(model, rounded, { masks, initial, activations: state.activations(rounded.keys()) })] : [];
  const copies = placed.length > 0 ? [{ dispose: () => placed.forEach((mask) => mask.dispose()) }] : [];
  return [...kept, ...made, ...quantized, ...copies];
}

/** Makes the trainer of a stage, whose run lies in `options.folder`, of the network on either device and its modifiers. */
export async function fineTuner(
  speech: TrainableSpeech,
  settings: Training,
  options: {
    readonly folder: string;
    /** What {@link parameterSettings} gave. */
    readonly settingsOf: (name: string) => ParameterSettings;
    /** Folder of features unless the recipe names one. */
    readonly features: string;
    readonly onStatus: (sentence: string) => void;
  },
): Promise<(network: TrainableModel, modifiers: readonly TrainingModifier[]) => Trainer> {
  const batches = await speechBatches(speech, settings, settings.features ?? options.features, options.onStatus);
  return (network, modifiers) => new Trainer(network, batches, trainerOptions(settings, { ...options, modifiers }));
}

/** What the trainer of a stage is given besides the keys of `training`. */
interface StageTrainer {
  readonly folder: string;
  readonly modifiers: readonly TrainingModifier[];
  readonly settingsOf: (name: string) => ParameterSettings;
}

/** What the keys of `training` mean for a trainer. */
export function trainerOptions(settings: Training, { folder, modifiers, settingsOf }: StageTrainer): TrainerOptions {
  return {
    folder,
    totalSteps: settings.steps,
    schedule: warmupCosine({
      peak: settings.learningRate,
      warmupSteps: Math.min(settings.warmUpSteps, settings.steps - 1),
      totalSteps: settings.steps,
      final: settings.learningRate / 100,
    }),
    seed: settings.seed,
    optimizer: { weightDecay: settings.weightDecay, settingsOf },
    modifiers,
    ...(settings.emaDecay > 0 ? { averageDecay: settings.emaDecay } : {}),
  };
}

/** A stage whose training is over. */
interface TrainedStage {
  readonly modifiers: readonly TrainingModifier[];
  readonly planned: PlannedStage;
  readonly state: CompressionState;
  readonly log: StageLog;
}

/** After a run: what it made of the weights, their specs, masks and scales go into `state`, and into `log` what these take from the weights. */
export function adoptTraining(trainer: Trainer, { modifiers, planned, state, log }: TrainedStage): void {
  trainer.adoptAverage();
  const { plan } = planned;
  for (const name of layersOf(planned)) state.update(name, { weight: state.layer(name).weight, spec: plan.get(name) ?? floatSpec });
  for (const modifier of modifiers) tidy(() => modifier.finish?.().forEach((coding, name) => state.update(name, coding)));
  const several = modifiers.some(({ variants }) => variants); // each of them has errors of its own
  // What pruned weights held is no part of the trained model: later stages must neither make up for it nor bring it back.
  for (const [name, spec] of plan) {
    const { weight, mask } = state.layer(name);
    if (!several) {
      log.write("training", {
        layer: name,
        spec: spec.text,
        weightError: tidy(() => relativeMeanSquare(effectiveWeight(state.layer(name)), weight).toArray()[0] as number),
      });
    }
    if (mask) tidy(() => weight.write(applyMask(weight, mask).toArray()));
  }
}

/**
 * How parameters are trained where it is not as the rest.
 * @throws UsmLiteError BAD_RECIPE when a pattern matches no parameter, or asks for a learning rate of such as are not trained alone
 */
export function parameterSettings(
  { training, placeInTraining }: Pick<Stage, "training" | "placeInTraining">,
  model: TrainableModel,
): (name: string) => ParameterSettings {
  const names = [...model.parameters().keys()];
  const kept = new Set(model.keptParameters?.());
  const { freeze = [], learningRates = [] } = training ?? {};
  const frozen = matcher(freeze, names, placeInTraining("freeze"));
  const rates = learningRates.map(({ targets, scale }, index) => ({
    targets,
    scale,
    matches: matcher(targets, names, placeInTraining("learningRates", index)),
  }));
  rates.forEach(({ targets, matches }, index) => {
    for (const pattern of targets) {
      const matched = names.filter((name) => matches(pattern, name));
      if (matched.some((name) => !kept.has(name))) continue;
      const place = placeInTraining("learningRates", index);
      throw new UsmLiteError(
        "BAD_RECIPE",
        `${place}: "${pattern}" is not trained: fine-tuning keeps "${matched[0]}" as it is in models of this family`,
      );
    }
  });
  return (name) => {
    const rate = rates.findLast(({ targets, matches }) => targets.some((pattern) => matches(pattern, name)));
    return {
      ...(freeze.some((pattern) => frozen(pattern, name)) ? { frozen: true } : {}),
      ...(rate ? { learningRateScale: rate.scale } : {}),
    };
  };
}

const entry = <Value>(name: string, value: Value | undefined): [string, Value][] => (value === undefined ? [] : [[name, value]]);
