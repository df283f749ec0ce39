/**
 * What is beneath models, from the search for text to the machine: the part of the public API that knows nothing of
 * networks, configurations and runs, and is loaded in a fraction of the time.
 */

// Search for the text, and judge it.
export { ctcGreedy } from "./decode/ctc_greedy.js";
export { CtcBeamSearch, ctcBeamSearch, type BeamHypothesis, type BeamSearchOptions } from "./decode/ctc_beam_search.js";
export type { DecodedToken, DecodedWord, FrameTimes, Hypothesis, LogProbabilities } from "./decode/hypothesis.js";
export type { FrameRows } from "./decode/frame_rows.js";
export { trainLanguageModel, type LanguageModelTrainingOptions } from "./decode/kneser_ney.js";
export { readLanguageModel, writeLanguageModel } from "./decode/ngram_file.js";
export { NgramLanguageModel } from "./decode/ngram_language_model.js";
export { LanguageModelScorer, type LanguageModelWeights } from "./decode/language_model_scorer.js";
export { HotwordScorer } from "./decode/hotword_scorer.js";
export { joinChunks, planChunks, type Chunk } from "./decode/overlap.js";
export { tuneFusion, type FusionTuningOptions, type FusionWeights, type TuningUtterance } from "./decode/fusion_tuning.js";
export {
  characterErrorRate,
  relativeChange,
  wordErrorRate,
  type BootstrapOptions,
  type ErrorRate,
  type RelativeChange,
  type Transcription,
} from "./text/word_error_rate.js";
export { Tokenizer, trainTokenizer } from "./text/tokenizer.js";
export { normalizeText } from "./text/normalize.js";

// Read audio.
export { decodeAudio, readAudio, type DecodedAudio, type DecodeOptions } from "./audio/decode.js";
export { audioDuration } from "./audio/duration.js";
export { resample, StreamResampler } from "./audio/resample.js";
export { LogMel, logMelConfigFrom, type LogMelConfig } from "./audio/log_mel.js";

// Describe, quantize, prune and pack weights.
export {
  bitsPerWeight,
  formatWeightSpec,
  packedBytes,
  parseWeightSpec,
  type PackedBytes,
  type Sparsity,
  type WeightSpec,
} from "./quant/weight_spec.js";
export { packWeight, unpackWeight, type GivenScales, type PackedWeight } from "./quant/packed_weight.js";
export { fakeQuantize, type FakeQuantizeOptions } from "./quant/fake_quantize.js";
export { groupScales, type ScaleRule, type ScaleStatistic } from "./quant/scale_rule.js";
export type { LayerCoding } from "./quant/layer_coding.js";
export { PackedMatrix } from "./quant/packed_matrix.js";
export { roundRows, type ActivationCoding } from "./quant/activation_coding.js";
export { magnitudeMask, unstructuredMask } from "./sparse/mask.js";
export { applyMask, prune, type PruneOptions } from "./sparse/prune.js";
export { ActivationNorms } from "./sparse/activation_norms.js";
export { checkMaskSchedule, gradualShare, isPruned, maskFrozenFrom, recomputesMask, type MaskSchedule } from "./sparse/schedule.js";
export { InputMaxima } from "./oneshot/input_maxima.js";
export { InputMoments, meanSquares, type LayerInputs } from "./oneshot/input_moments.js";
export { compressionError, type CompressionError } from "./oneshot/output_error.js";
export { gptq, inverseFactor, sparseGpt, type SecondOrderOptions, type SolvedWeight } from "./oneshot/second_order_rounding.js";
export { lowRankBytes, lowRankFactors, rankWithin, type LowRankFactors } from "./oneshot/low_rank.js";
export { searchScales, type ScaleSearchOptions } from "./oneshot/scale_search.js";
export { withinBudget, type Candidate } from "./oneshot/size_budget.js";
export { scaleColumns, smoothingScales } from "./oneshot/smoothing.js";
export { unstructuredWandaMask, wandaMask, wandaScore } from "./oneshot/wanda.js";

// Tensors, and operations on them that are differentiated.
export { Tensor, type DType } from "./tensor/tensor.js";
export { keep, tidy } from "./tensor/scope.js";
export { SequenceOffsets } from "./tensor/sequence_offsets.js";
export { Tape } from "./ops/tape.js";
export { matmul, type MatmulOptions } from "./ops/matmul.js";
export { linear, type Activation, type LinearOptions } from "./ops/linear.js";
export { integerLinear, type IntegerOperand } from "./ops/integer_linear.js";
export { packedLinear, type PackedActivation, type PackedLinearOptions } from "./ops/packed_linear.js";
export { RandomStream } from "./ops/random_stream.js";
export { scaledSum } from "./ops/elementwise.js";
export { ctcLoss, type CtcLossOptions, type CtcLossResult } from "./ops/ctc_loss.js";
export { transducerLoss, type Joint, type TransducerLossOptions, type TransducerLossResult } from "./ops/transducer_loss.js";
export { lstmSequence } from "./ops/lstm_sequence.js";
export { softmaxDivergence, type SoftmaxDivergenceOptions } from "./ops/softmax_divergence.js";
export { relativeMeanSquare } from "./ops/mean_square.js";
export {
  packedSubsamplingConvolution,
  subsampledLength,
  subsamplingConvolution,
  type SubsamplingConvolutionOptions,
} from "./ops/subsampling_convolution.js";
export { dropout, glu, silu, type DropoutOptions } from "./ops/activation.js";
export { attention, type AttentionOptions } from "./ops/attention.js";
export { batchNorm, foldBatchNorm, type BatchNormOptions, type FrozenBatchNorm } from "./ops/batch_norm.js";
export { depthwiseConvolution, type DepthwiseConvolutionOptions } from "./ops/depthwise_convolution.js";
export { addLayerNorm, layerNorm, type LayerNormOptions } from "./ops/layer_norm.js";
export { logSoftmax, softmax } from "./ops/softmax.js";
export type { LowRankFactors as AdapterFactors } from "./ops/low_rank.js";

// Compute on a GPU.
export {
  gpuFreeMemory,
  gpuHostTraffic,
  gpuInformation,
  gpuMemoryStatistics,
  hasGpu,
  resetPeakGpuMemory,
  trimGpuMemory,
  type GpuInformation,
  type HostTraffic,
} from "./device/gpu.js";
export { DeviceTensor, type DeviceType } from "./device/device_tensor.js";
export {
  DeviceWeight,
  type ArrangedBytes,
  type Arithmetic,
  type DeviceWeightOptions,
  type IntegerActivations,
} from "./device/device_weight.js";
export { deviceLinear, quantizeRows, type DeviceActivation, type DeviceLinearOptions, type QuantizedRows } from "./device/device_linear.js";
export { deviceMatmul } from "./device/device_matmul.js";
export { DeviceStream, synchronizeGpu } from "./device/device_stream.js";
export { DeviceEvent } from "./device/device_event.js";
export { PinnedBuffer } from "./device/pinned_buffer.js";
export { DeviceSequences } from "./device/device_sequences.js";
export { Recording } from "./device/recording.js";
export { deviceAttention, deviceRotateHeads, type DeviceAttentionOptions, type DeviceRotationOptions } from "./device/attention.js";
export {
  deviceDepthwiseConvolution,
  deviceGatherWindows,
  deviceGlu,
  deviceLayerNorm,
  deviceLayerNormTwice,
  deviceLogSoftmax,
  devicePlaneConvolution,
  deviceSwapColumnAxes,
  type DeviceDepthwiseConvolutionOptions,
  type DeviceLayerNormTwiceOptions,
  type DevicePlaneConvolutionOptions,
} from "./device/encoder_operations.js";
export { deviceAddLowRank, type DeviceLowRankFactors } from "./device/low_rank.js";
export { deviceCtcBestPath } from "./device/ctc_best_path.js";
export { DeviceLogMel, type Framing } from "./device/device_log_mel.js";
export { TransducerDecoder, type TransducerRules, type TransducerUtterance, type TransducerWeights } from "./device/transducer_decoder.js";
export { TransducerState } from "./device/transducer_state.js";
export type { TransducerStep } from "./device/transducer_steps.js";
export { deviceSpecAugment } from "./device/spec_augment.js";
export {
  deviceCtcLoss,
  deviceScaleSequences,
  deviceWeightedSum,
  type DeviceCtcLoss,
  type DeviceCtcLossOptions,
} from "./device/ctc_loss.js";

// Files of tensors.
export { readSafetensors, SafetensorsFile } from "./checkpoint/safetensors.js";
export { writeSafetensors, type SafetensorsEntry } from "./checkpoint/safetensors_writer.js";

// The machine, and errors.
export * from "./native/runtime.js";
export { UsmLiteError, type UsmLiteErrorCode } from "./errors.js";
