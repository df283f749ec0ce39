/** SpecAugment: masks over time and frequency (Park et al., Interspeech 2019; adaptive to length: ICASSP 2020). */
import type { RandomStream } from "../ops/random_stream.js";

/** Numbers and widths of the masks of {@link specAugment}. */
export interface SpecAugmentOptions {
  /** Number of frequency masks; default 2. */
  readonly frequencyMasks?: number;
  /** Each hides up to this share of the mel bins; default 0.25. */
  readonly frequencyMaskShare?: number;
  /** Number of time masks per frame of the utterance; default 0.04. */
  readonly timeMasksPerFrame?: number;
  /** At most so many time masks; default 20. */
  readonly maximumTimeMasks?: number;
  /** Each hides up to this share of the utterance; default 0.04. */
  readonly timeMaskShare?: number;
}

type Interval = readonly [begin: number, end: number];

/** What is hidden of an utterance. */
export interface SpecAugmentMasks {
  /** Bands of mel bins. */
  readonly bins: readonly Interval[];
  /** Stretches of frames. */
  readonly frames: readonly Interval[];
}

/**
 * Draws masks for an utterance of `frames` frames; none for one without.
 *
 * @example
 * const { bins, frames } = specAugmentMasks(500, 128, RandomStream.derived(seed, epoch, 7)); // two bands, 20 stretches
 */
export function specAugmentMasks(frames: number, bins: number, random: RandomStream, options: SpecAugmentOptions = {}): SpecAugmentMasks {
  const { frequencyMasks = 2, frequencyMaskShare = 0.25, timeMasksPerFrame = 0.04, maximumTimeMasks = 20, timeMaskShare = 0.04 } = options;
  if (frames === 0) return { bins: [], frames: [] };
  const timeMasks = Math.min(maximumTimeMasks, Math.round(timeMasksPerFrame * frames));
  const bands = Array.from({ length: frequencyMasks }, () => interval(bins, frequencyMaskShare, random));
  return { bins: bands, frames: Array.from({ length: timeMasks }, () => interval(frames, timeMaskShare, random)) };
}

/**
 * Replaces random bands and stretches by the mean of the utterance, in place.
 * @param features (frames, bins) log-mel of one utterance
 *
 * @example
 * specAugment(values, 128, RandomStream.derived(seed, epoch, 7), { frequencyMasks: 1 });
 */
export function specAugment(features: Float32Array, bins: number, random: RandomStream, options: SpecAugmentOptions = {}): void {
  const frames = features.length / bins;
  if (frames === 0) return;
  const masks = specAugmentMasks(frames, bins, random, options);
  let sum = 0;
  for (let i = 0; i < features.length; i++) sum += features[i] as number;
  const mean = sum / features.length;
  for (const [begin, end] of masks.bins) {
    for (let frame = 0; frame < frames; frame++) features.fill(mean, frame * bins + begin, frame * bins + end);
  }
  for (const [begin, end] of masks.frames) features.fill(mean, begin * bins, end * bins);
}

// A width from 0 to share * extent, then a place for it; both uniform.
function interval(extent: number, share: number, random: RandomStream): Interval {
  const width = random.integer(Math.floor(share * extent) + 1);
  const begin = random.integer(extent - width + 1);
  return [begin, begin + width];
}
