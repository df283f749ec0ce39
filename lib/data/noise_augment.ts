/** Changes of loudness and stationary noise, applied to log-mel energies instead of to samples. */
import type { RandomStream } from "../ops/random_stream.js";

/** Settings of {@link noiseAugment}. */
export interface NoiseAugmentOptions {
  /** Loudness changes by up to so many decibels up or down; default 6. */
  readonly gainDecibels?: number;
  /** Share of utterances that get noise; default 0.3. */
  readonly noiseProbability?: number;
  /** Signal-to-noise ratio in decibels, from the worst to the best; default [5, 30]. */
  readonly signalToNoise?: readonly [number, number];
}

const decibel = Math.LN10 / 10; // of power, in the natural logarithm
const tiltDecibels = 20; // at most, between the lowest bin and the highest

// Drawing from a table spares a logarithm and most of the random bits: one seed of 53 gives four draws of 13.
const quantiles = 8192;
const drawsPerSeed = 4;
const exponentialQuantiles = Float32Array.from({ length: quantiles }, (_, i) => -Math.log(1 - (i + 0.5) / quantiles));

/**
 * Applies a random gain and, to some utterances, noise with a random spectral tilt, in place. Speech and noise are
 * uncorrelated, so their powers add: log(e^x + e^n). The power of noise in one cell is exponentially distributed, as
 * that of a Gaussian signal.
 * @param features (frames, bins) natural logarithm of mel power of one utterance
 * @param floor lowest value the front end gives
 *
 * @example
 * noiseAugment(values, 128, Math.log(1e-5), RandomStream.derived(seed, epoch, 7), { noiseProbability: 0.5 });
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
  const tilt = (2 * random.uniform() - 1) * tiltDecibels * decibel;
  if (random.uniform() < noiseProbability) addNoise(features, bins, ratio, tilt, random);
  for (let i = 0; i < features.length; i++) features[i] = Math.max(floor, (features[i] as number) + gain);
}

function addNoise(features: Float32Array, bins: number, ratio: number, tilt: number, random: RandomStream): void {
  const powers = new Float32Array(features.length);
  let sum = 0;
  for (let i = 0; i < features.length; i++) sum += powers[i] = Math.exp(features[i] as number);
  const mean = sum / Math.max(features.length, 1);
  const levels = Float32Array.from({ length: bins }, (_, bin) => mean * Math.exp(tilt * (bin / bins - 0.5) - ratio));
  let bits = 0;
  for (let i = 0; i < features.length; i++) {
    if (i % drawsPerSeed === 0) bits = random.nextSeed();
    const draw = exponentialQuantiles[bits % quantiles] as number;
    bits = Math.floor(bits / quantiles);
    features[i] = Math.log((powers[i] as number) + (levels[i % bins] as number) * draw);
  }
}
