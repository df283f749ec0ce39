/** The log-mel front end of the `lasr` family (Google's Conformer-CTC). */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

/** The native tables of a front end. */
type LogMelPlan = object;

interface LogMelBindings {
  logMelCreate(
    sampleRate: number,
    windowLength: number,
    hopLength: number,
    fftLength: number,
    melBins: number,
    lowerEdge: number,
    upperEdge: number,
    floor: number,
  ): LogMelPlan;
  logMel(plan: LogMelPlan, samples: Float32Array): TensorHandle;
}

const native = addon as LogMelBindings;

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

const numericKeys = {
  feature_size: "featureSize",
  sampling_rate: "samplingRate",
  hop_length: "hopLength",
  n_fft: "fftLength",
  win_length: "windowLength",
} as const;

// How batches are padded is of no concern here: there is no padding.
const ignoredKeys = new Set(["padding_side", "padding_value", "return_attention_mask", "processor_class"]);
// Allowed only with the value that changes nothing.
const neutralKeys: Readonly<Record<string, readonly unknown[]>> = {
  feature_extractor_type: ["LasrFeatureExtractor"],
  do_normalize: [false, null],
  dither: [0, null],
  preemphasis: [0, null],
};

/**
 * Reads the parsed content of a `preprocessor_config.json`.
 *
 * @param source the file's name, for messages
 * @throws UsmLiteError BAD_CONFIG for anything that would make other features than this front end's
 */
export function logMelConfigFrom(json: unknown, source = "preprocessor_config.json"): LogMelConfig {
  const fail = (sentence: string): never => {
    throw new UsmLiteError("BAD_CONFIG", `${source}: ${sentence}`);
  };
  if (typeof json !== "object" || json === null || Array.isArray(json)) return fail("must be a JSON object");
  const config: Record<string, number> = { ...defaultLogMelConfig };
  for (const [key, value] of Object.entries(json)) {
    if (Object.hasOwn(numericKeys, key)) {
      if (!Number.isInteger(value) || (value as number) <= 0) {
        fail(`${key} is ${JSON.stringify(value)}; it must be a whole number from 1`);
      }
      config[numericKeys[key as keyof typeof numericKeys]] = value as number;
    } else if (Object.hasOwn(neutralKeys, key)) {
      const allowed = neutralKeys[key] as readonly unknown[];
      if (!allowed.includes(value)) {
        fail(`${key} is ${JSON.stringify(value)}; this front end only knows ${JSON.stringify(allowed[0])}`);
      }
    } else if (!ignoredKeys.has(key)) {
      fail(`"${key}" is not known to the LasrFeatureExtractor front end; remove it if it does not change the features`);
    }
  }
  return config as unknown as LogMelConfig;
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
export class LogMel {
  readonly config: LogMelConfig;
  private readonly plan: LogMelPlan;

  /** @throws UsmLiteError BAD_CONFIG when the numbers make no sense together */
  constructor(config: Partial<LogMelConfig> = {}, source = "log-mel configuration") {
    this.config = { ...defaultLogMelConfig, ...config };
    const { samplingRate, windowLength, hopLength, fftLength, featureSize } = this.config;
    try {
      this.plan = native.logMelCreate(
        samplingRate,
        windowLength,
        hopLength,
        fftLength,
        featureSize,
        lowerEdgeHertz,
        upperEdgeHertz,
        energyFloor,
      );
    } catch (error) {
      if (!(error instanceof UsmLiteError)) throw error;
      throw new UsmLiteError("BAD_CONFIG", `${source}: ${error.message}`, { cause: error });
    }
  }

  /** The front end that a parsed `preprocessor_config.json` describes. @throws UsmLiteError BAD_CONFIG */
  static fromJson(json: unknown, source?: string): LogMel {
    return new LogMel(logMelConfigFrom(json, source), source);
  }

  /** Frames that `samples` samples give: floor((samples - windowLength) / hopLength) + 1, or 0. */
  frames(samples: number): number {
    const { windowLength, hopLength } = this.config;
    return samples < windowLength ? 0 : Math.floor((samples - windowLength) / hopLength) + 1;
  }

  /**
   * @param samples mono, at `config.samplingRate`, full scale 1
   * @returns float32 (frames, featureSize); frame f covers the `windowLength` samples from f * hopLength on
   */
  logMel(samples: Float32Array): Tensor {
    return new Tensor(native.logMel(this.plan, samples));
  }
}
