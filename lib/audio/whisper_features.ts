/** The log-mel front end of Whisper (Radford et al. 2023). */
import type { DeviceLogMel } from "../device/device_log_mel.js";
import type { DeviceTensor } from "../device/device_tensor.js";
import { Tensor } from "../tensor/tensor.js";
import type { FrontEnd, FrontEndConfig } from "./front_end.js";
import { LogMelPlan } from "./log_mel_plan.js";
import { preprocessorValues } from "./preprocessor_config.js";

/** What `preprocessor_config.json` says; lengths in samples. */
export interface WhisperFeaturesConfig extends FrontEndConfig {
  readonly fftLength: number;
  /** Of a window, whatever the audio. */
  readonly windowSamples: number;
}

// The family fixes these (transformers, models/whisper/feature_extraction_whisper.py).
const upperEdgeHertz = 8000;
const energyFloor = 1e-10;
/** Nothing lies further (in powers of ten) below the loudest of a window. */
const dynamicRange = 8;

/** @throws UsmLiteError BAD_CONFIG for anything that would make other features than this front end's */
export function whisperFeaturesFrom(json: unknown, source: string): WhisperFeatures {
  const { numbers } = preprocessorValues(json, source, "WhisperFeatureExtractor", {
    numbers: { feature_size: 80, sampling_rate: 16000, hop_length: 160, chunk_length: 30, n_fft: 400 },
    // Older files hold the filters, and what follows from the lengths.
    ignored: ["mel_filters", "n_samples", "nb_max_frames"],
    neutral: {
      feature_extractor_type: ["WhisperFeatureExtractor"],
      dither: [0, null],
      do_normalize: [false, null],
      // Windows that are not full are padded: with silence, behind what was said.
      padding_value: [0],
      padding_side: ["right"],
    },
  });
  const samplingRate = numbers["sampling_rate"] as number;
  return new WhisperFeatures(
    {
      featureSize: numbers["feature_size"] as number,
      samplingRate,
      hopLength: numbers["hop_length"] as number,
      fftLength: numbers["n_fft"] as number,
      windowSamples: (numbers["chunk_length"] as number) * samplingRate,
    },
    source,
  );
}

/**
 * Log-mel energies of a window of audio, silence behind it, as transformers' `WhisperFeatureExtractor` computes them: frames centred on
 * multiples of the hop with the audio mirrored at its ends, periodic Hann window, librosa's mel filters, logarithms to base ten within
 * eight of the largest, scaled.
 */
class WhisperFeatures implements FrontEnd {
  private readonly plan: LogMelPlan;
  private onGpu: DeviceLogMel | undefined;

  /** @throws UsmLiteError BAD_CONFIG when the numbers make no sense together */
  constructor(
    readonly config: WhisperFeaturesConfig,
    source = "log-mel configuration",
  ) {
    this.plan = new LogMelPlan(
      {
        ...config,
        windowLength: config.fftLength,
        edges: [0, upperEdgeHertz],
        melScale: "slaney",
        window: "periodic",
        floor: { smallest: energyFloor },
      },
      source,
    );
  }

  /** As many for every window: 3000. */
  frames(): number {
    return Math.floor(this.config.windowSamples / this.config.hopLength);
  }

  /** @param samples those beyond the window are left out */
  features(samples: Float32Array): Tensor {
    const { windowSamples, fftLength, hopLength, featureSize } = this.config;
    const half = fftLength / 2;
    const padded = new Float32Array(windowSamples + fftLength);
    padded.set(samples.subarray(0, windowSamples), half);
    for (let i = 1; i <= half; i++) {
      padded[half - i] = padded[half + i] as number;
      padded[half + windowSamples - 1 + i] = padded[half + windowSamples - 1 - i] as number;
    }
    const frames = this.frames();
    using energies = this.plan.compute(padded.subarray(0, (frames - 1) * hopLength + fftLength));
    const values = energies.toArray();
    for (let i = 0; i < values.length; i++) values[i] = (values[i] as number) / Math.LN10;
    const least = values.reduce((largest, value) => Math.max(largest, value), -Infinity) - dynamicRange;
    for (let i = 0; i < values.length; i++) values[i] = (Math.max(values[i] as number, least) + 4) / 4;
    return Tensor.from(values, [frames, featureSize]);
  }

  featuresOnGpu(utterances: readonly Float32Array[]): DeviceTensor {
    const { windowSamples: mirroredWindow, fftLength } = this.config;
    this.onGpu ??= this.plan.onGpu({ frames: () => this.frames(), before: fftLength / 2, mirroredWindow, dynamicRange });
    return this.onGpu.features(utterances);
  }
}
