/** Training a float model from manifests: what `usm-lite train` does. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { defaultLogMelConfig } from "../audio/log_mel.js";
import { writeTextFile } from "../checkpoint/atomic_file.js";
import { writeFolderAtomically } from "../checkpoint/atomic_folder.js";
import { writeJsonFile } from "../checkpoint/json_file.js";
import { OutputLock } from "../checkpoint/output_lock.js";
import { FeatureCache } from "../data/feature_cache.js";
import { hasWords, readManifest, type Utterance } from "../data/manifest.js";
import { digestManifest } from "../data/manifest_digest.js";
import { emptyTranscript, SpeechBatches } from "../data/speech_batches.js";
import { writeSafetensors, type SafetensorsEntry } from "../checkpoint/safetensors_writer.js";
import { gpuInformation } from "../device/gpu.js";
import { checkTrainableOnGpu, placeForTraining } from "../models/device_training.js";
import { foldFeatureStatistics, measureFeatures } from "../models/lasr/feature_statistics.js";
import { formatLasrConfig, parseLasrConfig, type LasrConfig } from "../models/lasr/lasr_config.js";
import { LasrForCtc } from "../models/lasr/lasr_for_ctc.js";
import { modelFiles } from "../models/model_folder.js";
import { trainLanguageModel } from "../decode/kneser_ney.js";
import { writeLanguageModel } from "../decode/ngram_file.js";
import type { NgramLanguageModel } from "../decode/ngram_language_model.js";
import { UsmLiteError } from "../errors.js";
import { FreshWeights } from "../nn/fresh_weights.js";
import type { Tensor } from "../tensor/tensor.js";
import { PronouncingDictionary } from "../text/pronouncing_dictionary.js";
import { Tokenizer, trainTokenizer } from "../text/tokenizer.js";
import { augmentationOf } from "./augmentation_config.js";
import { IntermediateCtc } from "./intermediate_ctc.js";
import { warmupConstant, warmupCosine, warmupInverseSquareRoot, withCoolDown, type LearningRateSchedule } from "./schedule.js";
import type { TrainableModel } from "./trainable_model.js";
import type { TrainingConfig } from "./training_config.js";
import { CheckpointFolder, refuseOtherSpeech } from "./training_checkpoint.js";
import { Trainer } from "./trainer.js";
import type { TrainerOptions, TrainingResult } from "./trainer_options.js";
import { chooseTrainingDevice, runTraining, type TrainingDevice } from "./training_device.js";

export interface FloatTrainingOptions {
  /** Folder of the run: checkpoints, metrics, and in the end `model/`. */
  readonly out: string;
  /** Continue from the newest checkpoint in `out`, whichever device wrote it. */
  readonly resume: boolean;
  /** Default "cpu". */
  readonly device?: TrainingDevice;
  readonly onStatus?: (sentence: string) => void;
}

/**
 * Prepares features, learns a tokenizer, trains, and writes the model folder `out/model`.
 * @throws UsmLiteError INVALID_ARGUMENT when `out` holds a run that is not to be resumed, or a folder `model` of something else; OUTPUT_IN_USE while
 * another run writes there; BAD_CHECKPOINT when the run cannot be resumed, as its model or the contents of its manifests were others;
 * BAD_CONFIG, BAD_MANIFEST, BAD_AUDIO, TRAINING_DIVERGED; with device "cuda" UNSUPPORTED_MODEL, NO_GPU, DRIVER_TOO_OLD
 *
 * @example
 * await trainFloatModel(readTrainingConfig("training.yaml"), { out: "run", resume: false });
 */
export async function trainFloatModel(config: TrainingConfig, options: FloatTrainingOptions): Promise<TrainingResult> {
  const { out, resume, device: wanted = "cpu", onStatus = () => {} } = options;
  if (wanted === "cuda") gpuInformation();
  if (!resume) refuseEarlierRun(out);
  const utterances = config.data.train.flatMap(readManifest);
  const manifests = config.data.train.map(digestManifest);
  const begun = resume ? checkpointsOf(out).latest() : undefined;
  if (begun) refuseOtherSpeech(begun, manifests); // not after the features of all
  const silent = utterances.find((utterance) => !hasWords(utterance));
  if (silent) throw emptyTranscript(silent.source); // not after the features of all others
  const tokenizer = tokenizerOf(out, utterances, config.vocabularySize, resume);
  const modelConfig = modelConfigOf(config, tokenizer);
  const network = new LasrForCtc(modelConfig, new FreshWeights(config.seed));
  const device = chooseTrainingDevice(wanted, () => checkTrainableOnGpu(network, "the model of this configuration"), onStatus);
  const { intermediateLoss } = config;
  const dictionary = intermediateLoss?.pronunciations ? PronouncingDictionary.read(intermediateLoss.pronunciations) : undefined;
  using _lock = OutputLock.inside(out);
  if (!resume) refuseEarlierRun(out); // one that has ended meanwhile
  tokenizer.save(out);

  onStatus(`computing features of ${utterances.length} utterances at ${config.data.speeds.length} speeds`);
  const cache = new FeatureCache(config.data.features ?? join(out, "features"), {
    ...defaultLogMelConfig,
    featureSize: modelConfig.encoder_config.num_mel_bins,
  });
  await cache.prepare(utterances, config.data.speeds);

  foldFeatureStatistics(network, measureFeatures(cache, utterances, config.data.speeds[0] as number));
  const batches = batchesOf(config, utterances, tokenizer, dictionary, cache);
  const modelOf = (placed: LasrForCtc): TrainableModel =>
    intermediateLoss
      ? new IntermediateCtc(placed, { ...intermediateLoss, vocabulary: dictionary?.symbols.length ?? tokenizer.size })
      : placed;
  const totalSteps = Array.from({ length: config.epochs }, (_, epoch) => batches.count(epoch)).reduce((a, b) => a + b, 0);
  const trainerOptions: TrainerOptions = {
    folder: out,
    totalSteps,
    manifests,
    schedule: scheduleOf(config, totalSteps),
    seed: config.seed,
    optimizer: { weightDecay: config.optimizer.weightDecay },
    maximumNorm: config.optimizer.maximumNorm,
    ...(config.averageDecay > 0 ? { averageDecay: config.averageDecay } : {}),
    checkpoints: { everyMinutes: config.checkpointMinutes },
  };
  const { trainer, result } = await runTraining(device, {
    cpu: () => new Trainer(modelOf(network), batches, trainerOptions),
    gpu: () => {
      const placed = placeForTraining(network);
      return { trainer: new Trainer(modelOf(placed), batches, trainerOptions), release: () => placed.dispose() };
    },
    resume,
    onResume: (step) => onStatus(`continuing from step ${step} of ${totalSteps}`),
  });
  onStatus(`writing ${join(out, "model")}`);
  const texts = utterances.map(({ text }) => text);
  const order = config.languageModelOrder;
  const languageModel = order > 0 ? trainLanguageModel(texts, { order }) : undefined;
  writeFloatModel(join(out, "model"), { network, weights: trainer.weights(), tokenizer, languageModel });
  trainer.dispose();
  return result;
}

const checkpointsOf = (out: string): CheckpointFolder => new CheckpointFolder(join(out, "checkpoints"), 1);

function refuseEarlierRun(out: string): void {
  if (checkpointsOf(out).latest()) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${out} holds checkpoints of a run; continue it with --resume or name another folder`);
  }
  if (existsSync(join(out, "model"))) {
    throw new UsmLiteError("INVALID_ARGUMENT", `${join(out, "model")} exists and would be replaced; name another folder for the run`);
  }
}

function tokenizerOf(out: string, utterances: readonly Utterance[], size: number, resume: boolean): Tokenizer {
  if (resume && existsSync(join(out, modelFiles.tokenizer))) return Tokenizer.load(out);
  return trainTokenizer(
    utterances.map(({ text }) => text),
    size,
  );
}

function modelConfigOf(config: TrainingConfig, tokenizer: Tokenizer): LasrConfig {
  return parseLasrConfig(
    {
      architectures: ["LasrForCTC"],
      model_type: "lasr_ctc",
      dtype: "float32",
      vocab_size: tokenizer.size,
      pad_token_id: tokenizer.blankId,
      encoder_config: config.model,
    },
    'the "model" section of the training configuration',
  );
}

function batchesOf(
  { seed, data }: TrainingConfig,
  utterances: readonly Utterance[],
  tokenizer: Tokenizer,
  dictionary: PronouncingDictionary | undefined,
  cache: FeatureCache,
): SpeechBatches {
  return new SpeechBatches(utterances, (text) => tokenizer.encode(text), cache, {
    seed,
    batchSeconds: data.batchSeconds,
    shortestFirstEpochs: data.shortestFirstEpochs,
    plainEpochs: data.plainEpochs,
    speeds: data.speeds,
    ...augmentationOf(data),
    ...(dictionary ? { encodeInner: (text: string) => dictionary.encode(text) } : {}),
  });
}

function scheduleOf({ optimizer }: TrainingConfig, totalSteps: number): LearningRateSchedule {
  const warmUp = { peak: optimizer.learningRate, warmupSteps: Math.min(optimizer.warmUpSteps, totalSteps - 1) };
  const schedules = {
    cosine: () => warmupCosine({ ...warmUp, totalSteps, final: optimizer.learningRate / 100 }),
    "inverse-square-root": () => warmupInverseSquareRoot({ ...warmUp, final: optimizer.lowestLearningRate }),
    none: () => warmupConstant(warmUp),
  };
  return withCoolDown(schedules[optimizer.decay](), { totalSteps, share: optimizer.coolDownShare });
}

/** torch counts the batches that a batch normalization has seen; nothing depends on it, but its loader asks for it. */
const batchCounters = (network: LasrForCtc): [string, SafetensorsEntry][] =>
  [...network.buffers().keys()]
    .filter((name) => name.endsWith("running_mean"))
    .map((name) => [name.replace("running_mean", "num_batches_tracked"), { dtype: "I64", shape: [], data: new BigInt64Array(1) }]);

/** The folder in the layout of transformers: config, weights, feature extractor, tokenizer. */
function writeFloatModel(
  folder: string,
  {
    network,
    weights,
    tokenizer,
    languageModel,
  }: {
    network: LasrForCtc;
    weights: ReadonlyMap<string, Tensor>;
    tokenizer: Tokenizer;
    languageModel: NgramLanguageModel | undefined;
  },
): void {
  writeFolderAtomically(
    folder,
    (temporary) => {
      writeTextFile(join(temporary, modelFiles.config), formatLasrConfig(network.config));
      writeJsonFile(join(temporary, modelFiles.preprocessor), lasrPreprocessorConfig(network.config.encoder_config.num_mel_bins));
      tokenizer.save(temporary);
      if (languageModel) writeLanguageModel(join(temporary, modelFiles.languageModel), languageModel);
      const names = [...network.parameters().keys()];
      writeSafetensors(
        join(temporary, modelFiles.weights),
        [...names.map((name) => [name, weights.get(name) as Tensor] as const), ...network.buffers(), ...batchCounters(network)],
        { format: "pt" },
      );
    },
    { replace: true },
  );
}

const lasrPreprocessorConfig = (melBins: number): Record<string, unknown> => ({
  feature_extractor_type: "LasrFeatureExtractor",
  feature_size: melBins,
  hop_length: defaultLogMelConfig.hopLength,
  n_fft: defaultLogMelConfig.fftLength,
  padding_side: "right",
  padding_value: 0,
  return_attention_mask: true,
  sampling_rate: defaultLogMelConfig.samplingRate,
  win_length: defaultLogMelConfig.windowLength,
});
