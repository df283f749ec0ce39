/** Log-mel features computed on the GPU: samples go there, and features stay there. */
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { DeviceSequences, type DeviceSequencesHandle } from "./device_sequences.js";
import type { StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
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
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceNormaliseColumns(
    features: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    addedDeviation: number,
    stream?: StreamHandle,
  ): void;
}

const native = (): LogMelBindings => gpuAddon<LogMelBindings>();

/** How samples become frames. */
export interface Framing {
  /** Frames of an utterance of so many samples. */
  frames(samples: number): number;
  /** Samples of silence in front of the first; default 0. Behind the last there is silence too. */
  readonly before?: number;
  /** Share of the sample before that is taken off each sample; default 0. */
  readonly preemphasis?: number;
  /** Each bin of an utterance gets mean 0 and deviation 1, with this added to the deviation; absent: they stay as they are. */
  readonly normalisation?: { readonly addedDeviation: number };
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
   * @returns float32 (frames of all utterances, bins), packed
   */
  features(utterances: readonly Float32Array[]): DeviceTensor {
    const { before = 0, preemphasis = 0, normalisation } = this.framing;
    const offsets = new SequenceOffsets(utterances.map(({ length }) => length));
    const all = new Float32Array(offsets.frames);
    utterances.forEach((samples, index) => all.set(samples, offsets.begin(index)));
    using onCpu = Tensor.from(all);
    using samples = DeviceTensor.from(onCpu, "float32");
    using sequences = new DeviceSequences(new SequenceOffsets(utterances.map(({ length }) => this.framing.frames(length))));
    const features = new DeviceTensor(
      native().deviceLogMel(this.tables, samples.handle, offsets.tensor.handle, sequences.handle, before, preemphasis),
    );
    offsets.tensor.dispose();
    if (normalisation) native().deviceNormaliseColumns(features.handle, sequences.handle, normalisation.addedDeviation);
    return features;
  }
}
