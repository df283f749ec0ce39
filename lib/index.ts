/** usm-lite: the public API, from what most programs need to what it is made of. */

// Recognise speech.
export {
  Transcriber,
  type AudioInput,
  type StreamedText,
  type TranscribeOptions,
  type TranscriberOptions,
} from "./transcribe/transcriber.js";
export { Recognizer } from "./transcribe/recognizer.js";
export type { RecognizerOptions, RecordingOptions } from "./transcribe/recognizer_options.js";
export type { RecognizedSpeech } from "./transcribe/decoding.js";
export { evaluate, type Evaluation, type EvaluationOptions } from "./transcribe/evaluation.js";
export { loadModel, type LoadOptions, type SpeechModel } from "./models/model_folder.js";
export type { CtcNetwork, SequenceToSequenceNetwork, SpeechNetwork, TransducerNetwork } from "./models/speech_network.js";
export { pullModel, type PullOptions } from "./hub/pull.js";
export {
  formatTranscript,
  transcriptFormats,
  type SegmentOptions,
  type Transcript,
  type TranscriptFormat,
} from "./text/transcript_formats.js";

// Compress a model.
export { compressModel, type CompressModelOptions } from "./compress/compress_model.js";
export { parseRecipe, readRecipe, type Recipe, type Stage, type Training } from "./compress/recipe.js";
export { dryRun, formatDryRun, type DryRun, type DryRunOptions } from "./compress/dry_run.js";
export { writeRunReport, type RunEvaluation } from "./compress/report/run_report.js";
export { resolveSpecs, type CompressionPlan } from "./compress/compression_plan.js";
export type { Modifier } from "./compress/modifier.js";
export { measureModel, type ModelSize } from "./compress/size_report.js";

// Adapt a model to speakers.
export { adaptSpeaker, type AdaptationReport, type AdaptSpeakerOptions } from "./adapt/adapt_speaker.js";
export { adaptSpeakers, type SharedAdapterOptions, type SharedAdapterReport } from "./adapt/shared_adapter.js";
export { Adapter, stackAdapters } from "./adapt/adapter.js";
export { AdapterBase } from "./adapt/adapter_base.js";
export { readAdapter, writeAdapter } from "./adapt/adapter_file.js";
export { adapterDefaults, type AdapterSettings } from "./adapt/adapter_settings.js";
export { AdapterStore, type AdapterLease } from "./adapt/adapter_store.js";

// Train a model.
export { trainFloatModel, type FloatTrainingOptions } from "./train/float_training.js";
export { readTrainingConfig, type TrainingConfig } from "./train/training_config.js";
export { trainableNetwork, type TrainableNetwork } from "./models/trainable.js";
export { Trainer } from "./train/trainer.js";
export type { TrainerOptions, TrainingResult, Validation } from "./train/trainer_options.js";
export type {
  BatchLoss,
  BlockStack,
  HiddenStates,
  TrainableModel,
  TrainingBatch,
  TrainingContext,
  WeightTransform,
} from "./train/trainable_model.js";
export type { StepMetrics } from "./train/training_log.js";
export type { TrainingModifier } from "./train/training_modifier.js";
export { placeForTraining, type TrainedOnGpu } from "./models/device_training.js";
export { LasrForCtc } from "./models/lasr/lasr_for_ctc.js";
export { parseLasrConfig, type LasrConfig } from "./models/lasr/lasr_config.js";
export { WeightPruning, type MasksInForce, type PruningPattern, type WeightPruningOptions } from "./train/weight_pruning.js";
export { WeightQuantization, type WeightQuantizationOptions } from "./train/weight_quantization.js";
export { BlockModel, HiddenFrames } from "./train/block_training.js";
export { Distillation, type DistillationOptions, type DistillationTerms } from "./train/distillation.js";
export { ManySizes, type ManySizesOptions, type Size } from "./train/many_sizes.js";
export { AdamW, globalNorm, type AdamWOptions, type ParameterSettings } from "./train/optimizer.js";
export { WeightAverage } from "./train/weight_average.js";
export { warmupConstant, warmupCosine, warmupInverseSquareRoot, withCoolDown, type LearningRateSchedule } from "./train/schedule.js";
export { DeviceWeightSource } from "./nn/device_weight_source.js";
export { FreshWeights } from "./nn/fresh_weights.js";

// Speech to train on.
export { readManifest, writeManifest, type Utterance } from "./data/manifest.js";
export { digestManifest, type ManifestDigest } from "./data/manifest_digest.js";
export type { BatchSource } from "./data/batch_source.js";
export { readCorpus, type ReadCorpusOptions } from "./data/corpora/read_corpus.js";
export { corpusNames, type CorpusName, type CorpusPart } from "./data/corpora/corpus.js";
export { planBatches, type BatchingOptions } from "./data/batching.js";
export { FeatureCache, type Features, type PrepareOptions } from "./data/feature_cache.js";
export { noiseAugment, type NoiseAugmentOptions } from "./data/noise_augment.js";
export { specAugment, specAugmentMasks, type SpecAugmentMasks, type SpecAugmentOptions } from "./data/spec_augment.js";
export { SpeechBatches, type SpeechBatchesOptions } from "./data/speech_batches.js";

// What is beneath models: search for text, audio, weights, tensors, operations on the CPU and on GPUs, the machine.
export * from "./operations.js";
