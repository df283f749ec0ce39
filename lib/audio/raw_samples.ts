/** The front end of wav2vec 2.0 and its kin: the samples themselves. */
import { deviceSamples, normalisedSamples } from "../device/device_samples.js";
import type { DeviceTensor } from "../device/device_tensor.js";
import { Tensor } from "../tensor/tensor.js";
import type { FrontEnd, FrontEndConfig } from "./front_end.js";
import { preprocessorValues } from "./preprocessor_config.js";

// Added to the variance (transformers, models/wav2vec2/feature_extraction_wav2vec2.py).
const addedVariance = 1e-7;

/** @throws UsmLiteError BAD_CONFIG for anything that would make other features than this front end's */
export function rawSamplesFrom(json: unknown, source: string): RawSamples {
  const { numbers, switches } = preprocessorValues(json, source, "Wav2Vec2FeatureExtractor", {
    numbers: { sampling_rate: 16000 },
    switches: { do_normalize: true, return_attention_mask: false },
    ignored: [],
    neutral: { feature_extractor_type: ["Wav2Vec2FeatureExtractor"], feature_size: [1] },
  });
  return new RawSamples(numbers["sampling_rate"] as number, {
    normalizes: switches["do_normalize"] as boolean,
    attentionMask: switches["return_attention_mask"] as boolean,
  });
}

/** Samples as they are, or with mean 0 and variance 1 over the audio, as transformers' `Wav2Vec2FeatureExtractor` gives them. */
export class RawSamples implements FrontEnd {
  readonly config: FrontEndConfig;

  constructor(
    samplingRate: number,
    private readonly options: { readonly normalizes: boolean; readonly attentionMask: boolean },
  ) {
    this.config = { samplingRate, featureSize: 1, hopLength: 1, attentionMask: options.attentionMask };
  }

  frames(samples: number): number {
    return samples;
  }

  features(samples: Float32Array): Tensor {
    if (!this.options.normalizes || samples.length === 0) return Tensor.from(samples, [samples.length, 1]);
    const mean = samples.reduce((sum, value) => sum + value, 0) / samples.length;
    const variance = samples.reduce((sum, value) => sum + (value - mean) ** 2, 0) / samples.length;
    const factor = 1 / Math.sqrt(variance + addedVariance);
    return Tensor.from(
      samples.map((value) => (value - mean) * factor),
      [samples.length, 1],
    );
  }

  featuresOnGpu(utterances: readonly Float32Array[]): DeviceTensor {
    if (!this.options.normalizes) return deviceSamples(utterances);
    return normalisedSamples(utterances, { addedVariance, varianceOver: "frames" });
  }
}
