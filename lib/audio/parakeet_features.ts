/** The log-mel front end of NVIDIA's Parakeet models. */
import type { DeviceLogMel } from "../device/device_log_mel.js";
import type { DeviceTensor } from "../device/device_tensor.js";
import { UsmLiteError } from "../errors.js";
import { Tensor } from "../tensor/tensor.js";
import type { FrontEnd, FrontEndConfig } from "./front_end.js";
import { LogMelPlan } from "./log_mel_plan.js";
import { normalizedColumns } from "./normalized_columns.js";
import { preprocessorValues } from "./preprocessor_config.js";

/** What `preprocessor_config.json` says; lengths in samples. */
export interface ParakeetFeaturesConfig extends FrontEndConfig {
  readonly fftLength: number;
  readonly windowLength: number;
  /** Share of the sample before that is taken off each sample. */
  readonly preemphasis: number;
}

// The family fixes these (transformers, models/parakeet/feature_extraction_parakeet.py).
const addedEnergy = 2 ** -24;
const addedDeviation = 1e-5;

/** @throws UsmLiteError BAD_CONFIG for anything that would make other features than this front end's */
export function parakeetFeaturesFrom(json: unknown, source: string): ParakeetFeatures {
  const { numbers, fractions } = preprocessorValues(json, source, "ParakeetFeatureExtractor", {
    numbers: { feature_size: 80, ...lengths },
    fractions: { preemphasis: 0.97 },
    ignored: [],
    neutral: { feature_extractor_type: ["ParakeetFeatureExtractor"], do_normalize: [true, null], dither: [0, null] },
  });
  return new ParakeetFeatures(configOf(numbers, fractions), source);
}

/**
 * The front end of `cohere_asr`: Parakeet's, for audio of at most a window. Noise of the strength `dither`, far below what can be heard,
 * is not added, since no two libraries draw the same.
 * @throws UsmLiteError BAD_CONFIG for anything that would make other features than this front end's
 */
export function cohereFeaturesFrom(json: unknown, source: string): ParakeetFeatures {
  const { numbers, fractions } = preprocessorValues(json, source, "CohereAsrFeatureExtractor", {
    numbers: { feature_size: 128, ...lengths, min_energy_window_samples: 1600 },
    fractions: { preemphasis: 0.97, max_audio_clip_s: 35, overlap_chunk_second: 5, dither: 1e-5 },
    ignored: [],
    neutral: { feature_extractor_type: ["CohereAsrFeatureExtractor"], do_normalize: [true, null] },
  });
  const { samplingRate, ...config } = configOf(numbers, fractions);
  const samples = (key: string): number => Math.max(1, Math.round((fractions[key] as number) * samplingRate));
  const quietSamples = numbers["min_energy_window_samples"] as number;
  const windows = { windowSamples: samples("max_audio_clip_s"), cutSamples: samples("overlap_chunk_second"), quietSamples };
  if (windows.windowSamples < config.windowLength) {
    throw new UsmLiteError(
      "BAD_CONFIG",
      `${source}: max_audio_clip_s is ${fractions["max_audio_clip_s"]}; it must be the seconds of a window, at least win_length samples`,
    );
  }
  return new ParakeetFeatures({ samplingRate, ...config, ...windows }, source);
}

const lengths = { sampling_rate: 16000, hop_length: 160, n_fft: 512, win_length: 400 };

function configOf(numbers: Readonly<Record<string, number>>, fractions: Readonly<Record<string, number>>): ParakeetFeaturesConfig {
  return {
    featureSize: numbers["feature_size"] as number,
    samplingRate: numbers["sampling_rate"] as number,
    hopLength: numbers["hop_length"] as number,
    fftLength: numbers["n_fft"] as number,
    windowLength: numbers["win_length"] as number,
    preemphasis: fractions["preemphasis"] as number,
  };
}

/**
 * Log-mel energies as transformers' `ParakeetFeatureExtractor` computes them: pre-emphasis, frames centred on multiples of the hop
 * with zeros beyond the audio, symmetric Hann window, librosa's mel filters, and each bin normalized to mean 0 and deviation 1 over the
 * frames. A frame's features therefore depend on the whole audio.
 */
export class ParakeetFeatures implements FrontEnd {
  private readonly plan: LogMelPlan;
  private onGpu: DeviceLogMel | undefined;

  /** @throws UsmLiteError BAD_CONFIG when the numbers make no sense together */
  constructor(
    readonly config: ParakeetFeaturesConfig,
    source = "log-mel configuration",
  ) {
    this.plan = new LogMelPlan(
      {
        ...config,
        edges: [0, config.samplingRate / 2],
        melScale: "slaney",
        window: "symmetric",
        floor: { added: addedEnergy },
      },
      source,
    );
  }

  /** floor(samples / hopLength) */
  frames(samples: number): number {
    return Math.floor(samples / this.config.hopLength);
  }

  features(samples: Float32Array): Tensor {
    const { windowLength, hopLength, preemphasis, featureSize } = this.config;
    const frames = this.frames(samples.length);
    if (frames === 0) return Tensor.zeros([0, featureSize]);
    // The window is centred in the transform, so what lies before it in the first frame is half a window.
    const before = Math.ceil(windowLength / 2);
    const padded = new Float32Array(Math.max(before + samples.length, (frames - 1) * hopLength + windowLength));
    for (let i = samples.length - 1; i > 0; i--) padded[before + i] = (samples[i] as number) - preemphasis * (samples[i - 1] as number);
    padded[before] = samples[0] as number;
    using energies = this.plan.compute(padded.subarray(0, (frames - 1) * hopLength + windowLength));
    const normalized = normalizedColumns(energies.toArray(), featureSize, (variance) => Math.sqrt(variance) + addedDeviation);
    return Tensor.from(normalized, [frames, featureSize]);
  }

  featuresOnGpu(utterances: readonly Float32Array[]): DeviceTensor {
    const { windowLength, preemphasis } = this.config;
    const framing = { before: Math.ceil(windowLength / 2), preemphasis, normalisation: { addedDeviation } };
    this.onGpu ??= this.plan.onGpu({ frames: (samples) => this.frames(samples), ...framing });
    return this.onGpu.features(utterances);
  }
}
