/** Changes of loudness and stationary noise, applied to log-mel energies instead of to samples. */
import type { RandomStream } from "../ops/random_stream.js";

export interface NoiseAugmentOptions {
  /** Loudness changes by up to so many decibels up or down; default 6. */
  readonly gainDecibels?: number;
  /** Share of utterances that get noise; default 0.3. */
  readonly noiseProbability?: number;
  /** Signal-to-noise ratio in decibels, from the worst to the best; default [5, 30]. */
  readonly signalToNoise?: readonly [number, number];
}

const decibel = Math.LN10 / 10; // of power, in the natural logarithm

/**
 * Applies a random gain and, to some utterances, noise with a random spectral tilt, in place. Speech and noise are
 * uncorrelated, so their powers add: log(e^x + e^n). The power of noise in one cell is exponentially distributed, as
 * that of a Gaussian signal.
 * @param features (frames, bins) natural logarithm of mel power of one utterance
 * @param floor lowest value the front end gives
 */
export function noiseAugment(
  features: Float32Array,
  bins: number,
  floor: number,
  random: RandomStream,
  options: NoiseAugmentOptions = {},
): void {
  const { gainDecibels = 6, noiseProbability = 0.3, signalToNoise = [5, 30] } = options;
  const gain = (2 * random.uniform() - 1) * gainDecibels * decibel;
  const ratio = (signalToNoise[0] + random.uniform() * (signalToNoise[1] - signalToNoise[0])) * decibel;
  const tilt = (2 * random.uniform() - 1) * 20 * decibel; // from the lowest bin to the highest
  const noisy = random.uniform() < noiseProbability;
  let power = 0;
  for (let i = 0; i < features.length; i++) power += Math.exp(features[i] as number);
  const level = Math.log(power / Math.max(features.length, 1)) - ratio;
  for (let i = 0; i < features.length; i++) {
    let value = features[i] as number;
    if (noisy) {
      const shape = tilt * ((i % bins) / bins - 0.5);
      value = Math.log(Math.exp(value) + Math.exp(level + shape) * -Math.log(1 - random.uniform()));
    }
    features[i] = Math.max(floor, value + gain);
  }
}
