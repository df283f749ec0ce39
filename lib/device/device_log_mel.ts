/** Log-mel features computed on the GPU: samples go there, and features stay there. */
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { TensorHandle } from "../tensor/tensor.js";
import { deviceSamples } from "./device_samples.js";
import { DeviceSequences, type DeviceSequencesHandle } from "./device_sequences.js";
import type { StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { limitRange, normalisedColumns, type Normalisation } from "./feature_scaling.js";
import { gpuAddon } from "./gpu.js";

/** The native tables of a front end. */
type NativePlan = object;

interface LogMelBindings {
  deviceLogMelCreate(plan: NativePlan): object;
  deviceLogMel(
    tables: object,
    samples: DeviceTensorHandle,
    sampleOffsets: TensorHandle,
    frames: DeviceSequencesHandle,
    before: number,
    preemphasis: number,
    fullScale: number,
    mirroredWindow: number,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
}

const native = (): LogMelBindings => gpuAddon<LogMelBindings>();

/** How samples become frames, and what is made of these. */
export interface Framing {
  /** Log-mel frames of an utterance of so many samples. */
  frames(samples: number): number;
  /** Samples in front of the first, of silence unless there is a {@link Framing.mirroredWindow}; default 0. Behind the last there are some too. */
  readonly before?: number;
  /** Share of the sample before that is taken off each sample; default 0. */
  readonly preemphasis?: number;
  /** What a sample of 1 counts as; default 1. */
  readonly fullScale?: number;
  /** Samples of the window that an utterance fills, with silence behind it; around that it lies mirrored. Default 0: there is no window. */
  readonly mirroredWindow?: number;
  /** Of each bin over an utterance; absent: they stay as they are. */
  readonly normalisation?: Normalisation;
  /** Frames that lie side by side in one of the result, where there is a normalisation; default 1. */
  readonly stackedFrames?: number;
  /** Logarithms to base ten within so many below the largest of an utterance, as Whisper has them; absent: natural ones, all. */
  readonly dynamicRange?: number;
}

/**
 * A front end whose tables lie in the memory of the GPU.
 *
 * @example
 * const features = new LogMel().featuresOnGpu([samples]); // makes one, and keeps it
 */
export class DeviceLogMel {
  private readonly tables: object;

  /**
   * @param plan of the front end on the CPU, whose features these are, computed in float64 as well
   * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY; UNSUPPORTED_SPEC for a transform that is too long for the GPU
   */
  constructor(
    plan: NativePlan,
    private readonly framing: Framing,
  ) {
    this.tables = native().deviceLogMelCreate(plan);
  }

  /**
   * @param utterances mono samples, full scale 1
   * @returns float32 (frames of all utterances, bins), packed; with {@link Framing.stackedFrames} as many times fewer and wider
   */
  features(utterances: readonly Float32Array[]): DeviceTensor {
    const { normalisation, stackedFrames = 1, dynamicRange } = this.framing;
    const lengths = utterances.map(({ length }) => this.framing.frames(length));
    using sequences = new DeviceSequences(new SequenceOffsets(lengths));
    const features = this.logarithms(utterances, sequences);
    if (dynamicRange !== undefined) limitRange(features, sequences, dynamicRange);
    if (!normalisation) return features;
    using unscaled = features;
    if (stackedFrames === 1) return normalisedColumns(unscaled, sequences, normalisation);
    using stacked = new DeviceSequences(new SequenceOffsets(lengths.map((frames) => Math.floor(frames / stackedFrames))));
    return normalisedColumns(unscaled, sequences, normalisation, { frames: stackedFrames, sequences: stacked });
  }

  private logarithms(utterances: readonly Float32Array[], sequences: DeviceSequences): DeviceTensor {
    const { before = 0, preemphasis = 0, fullScale = 1, mirroredWindow = 0 } = this.framing;
    const offsets = new SequenceOffsets(utterances.map(({ length }) => length));
    using where = offsets.tensor;
    using samples = deviceSamples(utterances);
    const framing = [before, preemphasis, fullScale, mirroredWindow] as const;
    return new DeviceTensor(native().deviceLogMel(this.tables, samples.handle, where.handle, sequences.handle, ...framing));
  }
}
