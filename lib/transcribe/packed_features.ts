/** Features of the chunks that share a pass, one after another, where the network computes. */
import { featuresOnDevice, roundedFeatures } from "../device/placement.js";
import type { SpeechModel } from "../models/model_folder.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import type { ForwardChunk } from "./passes.js";

/** @returns (frames of all chunks, feature size) */
export function packedFeatures(
  { frontEnd, device }: Pick<SpeechModel, "frontEnd" | "device">,
  chunks: readonly ForwardChunk[],
  offsets: SequenceOffsets,
): Tensor {
  const samples = chunks.flatMap((chunk) => (chunk.samples ? [chunk.samples] : []));
  if (device === "cuda" && samples.length === chunks.length) return roundedFeatures(frontEnd.featuresOnGpu(samples));
  const packed = Tensor.zeros([offsets.frames, frontEnd.config.featureSize]);
  chunks.forEach(({ frames, values }, index) => {
    packed.rows(offsets.begin(index), offsets.begin(index) + frames).write(values);
  });
  return featuresOnDevice(packed, device);
}
