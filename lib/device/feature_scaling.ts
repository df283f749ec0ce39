/** What front ends do with features on the GPU in the light of all frames of their utterance. */
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface FeatureScalingBindings {
  deviceNormaliseColumns(
    features: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    stacked: DeviceSequencesHandle,
    framesPerStacked: number,
    addedVariance: number,
    addedDeviation: number,
    varianceOfSample: boolean,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
  deviceLimitRange(features: DeviceTensorHandle, sequences: DeviceSequencesHandle, range: number, stream?: StreamHandle): void;
}

const native = (): FeatureScalingBindings => gpuAddon<FeatureScalingBindings>();

/** (x - mean) / (sqrt(variance + addedVariance) + addedDeviation) */
export interface Normalisation {
  /** Default 0. */
  readonly addedVariance?: number;
  /** Default 0. */
  readonly addedDeviation?: number;
  /** What squares are divided by: `frames - 1`, as the variance of a sample is, or all `frames`. Default `frames - 1`. */
  readonly varianceOver?: "frames - 1" | "frames";
}

/** Frames side by side in one. */
export interface Stacking {
  readonly frames: number;
  /** Of the stacked frames: as many as each sequence fills. */
  readonly sequences: DeviceSequences;
}

/**
 * Every column with mean 0 and (nearly) deviation 1 over each sequence. Frames that fill no stacked one are left out, but count.
 * @param features float32 (frames, bins), or (frames) of one value each
 * @returns float32 (stacked frames, bins * stacking.frames); without stacking as `features`
 */
export function normalisedColumns(
  features: DeviceTensor,
  sequences: DeviceSequences,
  { addedVariance = 0, addedDeviation = 0, varianceOver = "frames - 1" }: Normalisation,
  stacking: Stacking = { frames: 1, sequences },
): DeviceTensor {
  const [ofSample, stacked] = [varianceOver === "frames - 1", stacking.sequences.handle];
  return new DeviceTensor(
    native().deviceNormaliseColumns(features.handle, sequences.handle, stacked, stacking.frames, addedVariance, addedDeviation, ofSample),
  );
}

/**
 * What Whisper does with natural logarithms, in place: (l + 4) / 4, where l is to base ten and at least the largest of its sequence less
 * `range`.
 * @param features float32 (frames, bins)
 */
export function limitRange(features: DeviceTensor, sequences: DeviceSequences, range: number): void {
  native().deviceLimitRange(features.handle, sequences.handle, range);
}
