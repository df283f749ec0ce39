/** How long the chunks of long recordings are, and how much they share. */
import type { FrontEnd } from "../audio/front_end.js";
import { KaldiFeatures } from "../audio/kaldi_features.js";
import { LogMel } from "../audio/log_mel.js";
import { RawSamples } from "../audio/raw_samples.js";

/** Seconds. */
export interface ChunkSeconds {
  readonly length: number;
  readonly overlap: number;
}

// Chunks see 2 s of context beyond their part on either side: well past the reach of the convolutions, and
// attention over 20 s is what models met in training.
const ofLogMel: ChunkSeconds = { length: 20, overlap: 4 };
// Samples become hidden frames of their own in the network, thousands a second at first.
const ofSamples: ChunkSeconds = { length: 30, overlap: 4 };
// Where features are normalized over the audio, chunks are as long as memory allows, so that most audio is one.
const ofNormalizedFeatures: ChunkSeconds = { length: 120, overlap: 8 };

export function chunkSeconds(frontEnd: FrontEnd): ChunkSeconds {
  if (frontEnd instanceof LogMel) return ofLogMel;
  return frontEnd instanceof RawSamples || frontEnd instanceof KaldiFeatures ? ofSamples : ofNormalizedFeatures;
}
