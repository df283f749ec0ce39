/** Feature normalization as part of the weights: the model family takes log-mel features as they are. */
import type { FeatureCache } from "../../data/feature_cache.js";
import type { Utterance } from "../../data/manifest.js";
import { UsmLiteError } from "../../errors.js";
import type { LasrForCtc } from "./lasr_for_ctc.js";

/** Mean and standard deviation of each mel bin. */
export interface FeatureStatistics {
  readonly mean: Float64Array;
  readonly deviation: Float64Array;
}

// Bins that hardly vary, such as one that is always at the floor, must not be blown up.
const minimumDeviation = 0.5;

// Utterances that are looked at, about: more would change the statistics little.
const sampleSize = 1000;

/** Over about a thousand utterances, evenly spread over the list. */
export function measureFeatures(cache: FeatureCache, utterances: readonly Utterance[], speed: number): FeatureStatistics {
  const step = Math.max(1, Math.floor(utterances.length / sampleSize));
  let sum = new Float64Array();
  let sumOfSquares = new Float64Array();
  let frames = 0;
  for (let index = 0; index < utterances.length; index += step) {
    const features = cache.read(utterances[index] as Utterance, speed);
    if (sum.length === 0) {
      sum = new Float64Array(features.bins);
      sumOfSquares = new Float64Array(features.bins);
    }
    features.values.forEach((value, i) => {
      const bin = i % features.bins;
      sum[bin] = (sum[bin] as number) + value;
      sumOfSquares[bin] = (sumOfSquares[bin] as number) + value * value;
    });
    frames += features.frames;
  }
  if (frames === 0) throw new UsmLiteError("BAD_MANIFEST", "the training audio is too short to give a single frame");
  const mean = sum.map((value) => value / frames);
  const deviation = sumOfSquares.map((value, bin) =>
    Math.max(minimumDeviation, Math.sqrt(Math.max(0, value / frames - (mean[bin] as number) ** 2))),
  );
  return { mean, deviation };
}

/**
 * Changes a fresh first layer so that it sees normalized features: with W' = W / deviation and
 * b' = b - W' mean, W' x + b' = W (x - mean) / deviation + b.
 */
export function foldFeatureStatistics(network: LasrForCtc, { mean, deviation }: FeatureStatistics): void {
  const weight = network.parameters().get("encoder.subsampler.dense_0.weight");
  const bias = network.parameters().get("encoder.subsampler.dense_0.bias");
  if (!weight || !bias) throw new UsmLiteError("INTERNAL", "the network has no encoder.subsampler.dense_0");
  const weights = weight.toArray();
  const biases = bias.toArray();
  const bins = mean.length;
  for (let row = 0; row < biases.length; row++) {
    for (let bin = 0; bin < bins; bin++) {
      const folded = (weights[row * bins + bin] as number) / (deviation[bin] as number);
      weights[row * bins + bin] = folded;
      biases[row] = (biases[row] as number) - folded * (mean[bin] as number);
    }
  }
  weight.write(weights);
  bias.write(biases);
}
