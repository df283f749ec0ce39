/** The log-mel front end of Kaldi, two frames at a time: that of w2v-BERT 2.0. */
import type { DeviceLogMel } from "../device/device_log_mel.js";
import type { DeviceTensor } from "../device/device_tensor.js";
import { Tensor } from "../tensor/tensor.js";
import type { FrontEnd, FrontEndConfig } from "./front_end.js";
import { LogMelPlan } from "./log_mel_plan.js";
import { normalizedColumns } from "./normalized_columns.js";
import { preprocessorValues } from "./preprocessor_config.js";

// The family fixes these (transformers, models/seamless_m4t/feature_extraction_seamless_m4t.py); lengths in samples.
const windowLength = 400;
const hopLength = 160;
const fftLength = 512;
const lowerEdgeHertz = 20;
const preemphasis = 0.97;
const energyFloor = 2 ** -23;
/** Kaldi takes samples of 16 bits for whole numbers. */
const fullScale = 2 ** 15;
const addedVariance = 1e-7;
/** Log-mel frames that become one. */
const stacked = 2;

/** @throws UsmLiteError BAD_CONFIG for anything that would make other features than this front end's */
export function kaldiFeaturesFrom(json: unknown, source: string): KaldiFeatures {
  const { numbers } = preprocessorValues(json, source, "SeamlessM4TFeatureExtractor", {
    numbers: { num_mel_bins: 80, sampling_rate: 16000 },
    ignored: ["feature_size"],
    neutral: {
      feature_extractor_type: ["SeamlessM4TFeatureExtractor"],
      stride: [stacked],
      return_attention_mask: [true, null],
    },
  });
  return new KaldiFeatures({ melBins: numbers["num_mel_bins"] as number, samplingRate: numbers["sampling_rate"] as number }, source);
}

/**
 * Log-mel energies as transformers' `SeamlessM4TFeatureExtractor` computes them after Kaldi's `compute-fbank-feats`: frames of 400 samples
 * every 160, each without its mean and with pre-emphasis, Povey's window, triangular filters evenly spaced on the mel scale from 20 Hz to
 * half the sampling rate, natural logarithm; each bin normalized to mean 0 and variance 1 over the frames, and pairs of frames side by
 * side. A last frame without a partner is normalized with the others, and left out. A frame's features therefore depend on the whole audio.
 */
export class KaldiFeatures implements FrontEnd {
  readonly config: FrontEndConfig;
  /** 240 samples. */
  readonly overhang = windowLength - hopLength;
  private readonly plan: LogMelPlan;
  private onGpu: DeviceLogMel | undefined;

  /** @throws UsmLiteError BAD_CONFIG when the numbers make no sense together */
  constructor(
    private readonly settings: { readonly melBins: number; readonly samplingRate: number },
    source = "log-mel configuration",
  ) {
    const { melBins, samplingRate } = settings;
    this.config = { samplingRate, featureSize: stacked * melBins, hopLength: stacked * hopLength };
    this.plan = new LogMelPlan(
      {
        samplingRate,
        featureSize: melBins,
        hopLength,
        fftLength,
        windowLength,
        edges: [lowerEdgeHertz, Math.floor(samplingRate / 2)],
        melScale: "htk",
        window: "povey",
        framePreemphasis: preemphasis,
        floor: { smallest: energyFloor },
      },
      source,
    );
  }

  /** Pairs of log-mel frames. */
  frames(samples: number): number {
    return Math.floor(this.plan.frames(samples) / stacked);
  }

  features(samples: Float32Array): Tensor {
    using energies = this.plan.compute(samples.map((value) => value * fullScale));
    const values = normalizedColumns(energies.toArray(), this.settings.melBins, (variance) => Math.sqrt(variance + addedVariance));
    const { featureSize } = this.config;
    const frames = this.frames(samples.length);
    return Tensor.from(values.subarray(0, frames * featureSize), [frames, featureSize]);
  }

  featuresOnGpu(utterances: readonly Float32Array[]): DeviceTensor {
    const framing = { fullScale, normalisation: { addedVariance }, stackedFrames: stacked };
    this.onGpu ??= this.plan.onGpu({ frames: (samples) => this.plan.frames(samples), ...framing });
    return this.onGpu.features(utterances);
  }
}
