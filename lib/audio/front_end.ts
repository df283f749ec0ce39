/** From samples to what a network takes. */
import type { DeviceTensor } from "../device/device_tensor.js";
import type { Tensor } from "../tensor/tensor.js";

export interface FrontEndConfig {
  /** Hz */
  readonly samplingRate: number;
  /** Values in a frame: mel bins, or 1 where the network takes samples. */
  readonly featureSize: number;
  /** Samples from the beginning of one frame to that of the next. */
  readonly hopLength: number;
  /** False: the model was trained on padded batches without a mask, and takes padding for silence. Absent: it is told what is padding. */
  readonly attentionMask?: boolean;
  /** Samples of the windows that a sequence-to-sequence model hears. */
  readonly windowSamples?: number;
  /** Where windows are cut at a quiet place: within so many samples before the end of a full one. */
  readonly cutSamples?: number;
  /** Samples over which quietness is measured. */
  readonly quietSamples?: number;
}

/** Each family of models has its own. */
export interface FrontEnd {
  readonly config: FrontEndConfig;
  /** Samples of a frame that lie beyond the beginning of the next; absent: none, as where frames are centred. */
  readonly overhang?: number;
  /** Frames that this many samples give. */
  frames(samples: number): number;
  /**
   * @param samples mono, at `config.samplingRate`, full scale 1
   * @returns float32 (frames, featureSize)
   */
  features(samples: Float32Array): Tensor;
  /**
   * The same of several utterances, computed on the GPU.
   * @returns float32 (frames of all utterances, featureSize), packed; samples, which are frames of one value, as a vector
   * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY
   */
  featuresOnGpu(utterances: readonly Float32Array[]): DeviceTensor;
}
