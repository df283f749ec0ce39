/** Samples on the GPU, as they are or normalised over their utterance. */
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { DeviceSequences } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { normalisedColumns, type Normalisation } from "./feature_scaling.js";
import { gpuAddon } from "./gpu.js";

interface DeviceSamplesBindings {
  deviceSamples(utterances: readonly Float32Array[], stream?: StreamHandle): DeviceTensorHandle;
}

/**
 * Copies the samples of utterances to the GPU.
 * @returns float32 (samples of all utterances)
 * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY; INVALID_ARGUMENT for 2^31 samples and more
 */
export const deviceSamples = (utterances: readonly Float32Array[], stream?: DeviceStream): DeviceTensor =>
  new DeviceTensor(gpuAddon<DeviceSamplesBindings>().deviceSamples(utterances, stream?.handle));

/** {@link deviceSamples}, with mean 0 and (nearly) deviation 1 over each utterance. @throws UsmLiteError likewise */
export function normalisedSamples(utterances: readonly Float32Array[], normalisation: Normalisation): DeviceTensor {
  using samples = deviceSamples(utterances);
  const offsets = new SequenceOffsets(utterances.map(({ length }) => length));
  using sequences = new DeviceSequences(offsets);
  offsets.tensor.dispose();
  return normalisedColumns(samples, sequences, normalisation);
}
