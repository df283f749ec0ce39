/** SpecAugment (Park et al., Interspeech 2019) on the GPU. */
import { UsmLiteError } from "../errors.js";
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import type { DeviceTensor, DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface SpecAugmentBindings {
  deviceSpecAugment(
    features: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    intervals: readonly number[],
    offsets: readonly number[],
    stream?: StreamHandle,
  ): void;
}

type Interval = readonly [begin: number, end: number];

/**
 * Replaces bands and stretches of each utterance by its mean, in place: with the masks that `specAugmentMasks` draws, what `specAugment`
 * does on the CPU.
 * @param features (frames, bins), bfloat16 or float32
 * @param masks of each sequence: intervals of bins, and of its frames
 * @throws UsmLiteError INVALID_ARGUMENT when there are not as many masks as sequences, or one reaches beyond its sequence
 *
 * @example
 * deviceSpecAugment(features, sequences, lengths.map((frames) => specAugmentMasks(frames, bins, random)));
 */
export function deviceSpecAugment(
  features: DeviceTensor,
  sequences: DeviceSequences,
  masks: readonly { readonly bins: readonly Interval[]; readonly frames: readonly Interval[] }[],
  stream?: DeviceStream,
): void {
  if (masks.length !== sequences.lengths.length) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `deviceSpecAugment: there are ${sequences.lengths.length} sequences but masks of ${masks.length}`,
    );
  }
  const groups = masks.flatMap(({ bins, frames }) => [bins, frames]);
  const offsets = [0];
  for (const group of groups) offsets.push((offsets.at(-1) as number) + group.length);
  gpuAddon<SpecAugmentBindings>().deviceSpecAugment(features.handle, sequences.handle, groups.flat(2), offsets, stream?.handle);
}
