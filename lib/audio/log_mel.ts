/** The log-mel front end of the `lasr` family (Google's Conformer-CTC). */
import type { DeviceLogMel } from "../device/device_log_mel.js";
import type { DeviceTensor } from "../device/device_tensor.js";
import type { Tensor } from "../tensor/tensor.js";
import type { FrontEnd } from "./front_end.js";
import { LogMelPlan } from "./log_mel_plan.js";
import { preprocessorValues } from "./preprocessor_config.js";

// The family fixes these (transformers, models/lasr/feature_extraction_lasr.py).
const lowerEdgeHertz = 125;
const upperEdgeHertz = 7500;
const energyFloor = 1e-5;

/** What `preprocessor_config.json` says; lengths in samples. */
export interface LogMelConfig {
  readonly featureSize: number;
  readonly samplingRate: number;
  readonly hopLength: number;
  readonly fftLength: number;
  readonly windowLength: number;
}

export const defaultLogMelConfig: LogMelConfig = {
  featureSize: 128,
  samplingRate: 16000,
  hopLength: 160,
  fftLength: 512,
  windowLength: 400,
};

/**
 * Reads the parsed content of a `preprocessor_config.json`.
 *
 * @param source the file's name, for messages
 * @throws UsmLiteError BAD_CONFIG for anything that would make other features than this front end's
 *
 * @example
 * const config = logMelConfigFrom(JSON.parse(readFileSync("float/preprocessor_config.json", "utf8")));
 * const frontEnd = new LogMel(config);
 */
export function logMelConfigFrom(json: unknown, source = "preprocessor_config.json"): LogMelConfig {
  const { numbers } = preprocessorValues(json, source, "LasrFeatureExtractor", {
    numbers: { feature_size: 128, sampling_rate: 16000, hop_length: 160, n_fft: 512, win_length: 400 },
    ignored: [],
    neutral: {
      feature_extractor_type: ["LasrFeatureExtractor"],
      do_normalize: [false, null],
      dither: [0, null],
      preemphasis: [0, null],
    },
  });
  return {
    featureSize: numbers["feature_size"] as number,
    samplingRate: numbers["sampling_rate"] as number,
    hopLength: numbers["hop_length"] as number,
    fftLength: numbers["n_fft"] as number,
    windowLength: numbers["win_length"] as number,
  };
}

/**
 * Log-mel energies as transformers' `LasrFeatureExtractor` computes them: frames of `windowLength` samples every
 * `hopLength`, symmetric Hann window, power spectrum of `fftLength` points, triangular filters evenly spaced on the HTK
 * mel scale between 125 and 7500 Hz without the DC bin, natural logarithm of at least 1e-5. Computed in float64.
 *
 * @example
 * const frontEnd = new LogMel();
 * const features = frontEnd.logMel(samples); // (frames, 128)
 */
export class LogMel implements FrontEnd {
  readonly config: LogMelConfig;
  private readonly plan: LogMelPlan;
  private onGpu: DeviceLogMel | undefined;

  /** @throws UsmLiteError BAD_CONFIG when the numbers make no sense together */
  constructor(config: Partial<LogMelConfig> = {}, source = "log-mel configuration") {
    this.config = { ...defaultLogMelConfig, ...config };
    this.plan = new LogMelPlan(
      {
        ...this.config,
        edges: [lowerEdgeHertz, upperEdgeHertz],
        melScale: "htk",
        window: "symmetric",
        floor: { smallest: energyFloor },
      },
      source,
    );
  }

  /** The front end that a parsed `preprocessor_config.json` describes. @throws UsmLiteError BAD_CONFIG */
  static fromJson(json: unknown, source?: string): LogMel {
    return new LogMel(logMelConfigFrom(json, source), source);
  }

  get overhang(): number {
    return this.config.windowLength - this.config.hopLength;
  }

  /** Frames that `samples` samples give: floor((samples - windowLength) / hopLength) + 1, or 0. */
  frames(samples: number): number {
    return this.plan.frames(samples);
  }

  /**
   * @param samples mono, at `config.samplingRate`, full scale 1
   * @returns float32 (frames, featureSize); frame f covers the `windowLength` samples from f * hopLength on
   */
  logMel(samples: Float32Array): Tensor {
    return this.plan.compute(samples);
  }

  features(samples: Float32Array): Tensor {
    return this.logMel(samples);
  }

  featuresOnGpu(utterances: readonly Float32Array[]): DeviceTensor {
    this.onGpu ??= this.plan.onGpu({ frames: (samples) => this.frames(samples) });
    return this.onGpu.features(utterances);
  }
}
