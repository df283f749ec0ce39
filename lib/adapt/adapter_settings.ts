/** Settings of an adapter and of how it learns. */
import type { SpecAugmentOptions } from "../data/spec_augment.js";
import { UsmLiteError } from "../errors.js";
import { maximumRank } from "./peft_config.js";

/** How an adapter learns; {@link adapterDefaults} has the defaults. */
export interface AdapterSettings {
  readonly rank?: number;
  /** What an adapter adds is multiplied by alpha / rank while it learns; default: the rank. */
  readonly alpha?: number;
  /** Dropout of what adapters see while they learn. */
  readonly dropout?: number;
  /**
   * Patterns of layers: `*` stands for any characters, `re:` begins a regular expression; default: {@link defaultTargets}, for a
   * speaker with {@link longSpeech} all.
   */
  readonly targets?: readonly string[];
  readonly learningRate?: number;
  readonly weightDecay?: number;
  /** Seconds of speech in a step. */
  readonly batchSeconds?: number;
  /** Times that every utterance is learned from, at most; default 8, for a speaker with {@link longSpeech} 20. */
  readonly epochs?: number;
  /** Epochs without a better held-out loss after which learning stops. */
  readonly patience?: number;
  readonly specAugment?: SpecAugmentOptions | undefined;
  readonly seed?: number;
}

/**
 * Projections of attention, as in LoRA's own experiments: a third of a Conformer's layers, and of the time that adapters take. Of a
 * sequence-to-sequence model those of the encoder, and of the decoder's attention to tokens and to the encoder.
 */
export const defaultTargets: readonly string[] = ["re:.*(attn|attention).*"];

/**
 * What two minutes of a speaker or more are worth: all layers, learned for as long as it helps. By cross-validation on three minutes of a speaker
 * far from those of the model's training they leave 58.0 % word errors of 65.7 %, attention alone 63.0 % (docs/adaptation.md).
 */
const longSpeech = { seconds: 120, targets: ["*"], epochs: 20 } as const;

/** Settings with the defaults that depend on how much speech there is. */
export function settingsFor(seconds: number, settings: AdapterSettings): AdapterSettings {
  if (seconds < longSpeech.seconds) return settings;
  return { ...settings, targets: settings.targets ?? longSpeech.targets, epochs: settings.epochs ?? longSpeech.epochs };
}

/**
 * Chosen on eight speakers that were held out of the training of the default model, see docs/adaptation.md.
 *
 * @example
 * await adaptSpeaker(model, utterances, { rank: 2 * adapterDefaults.rank });
 */
export const adapterDefaults = {
  rank: 4,
  dropout: 0.1,
  learningRate: 2e-3,
  weightDecay: 0.01,
  batchSeconds: 20,
  epochs: 8,
  patience: 2,
  specAugment: {},
  seed: 1,
} as const satisfies AdapterSettings;

/** Of an adapter that many speakers share. */
export const sharedDefaults = {
  ...adapterDefaults,
  rank: 8,
  epochs: 6,
  patience: 2,
  learningRate: 1e-3,
} as const satisfies AdapterSettings;

/** Settings with their defaults, checked. */
export interface ResolvedAdapterSettings extends Required<Omit<AdapterSettings, "alpha" | "targets" | "specAugment">> {
  readonly targets: readonly string[];
  readonly specAugment: SpecAugmentOptions | undefined;
  readonly maximumNorm: number;
  /** alpha / rank */
  readonly scale: number;
}

/** @throws UsmLiteError INVALID_ARGUMENT naming the setting that is out of range */
export function resolvedSettings(
  settings: AdapterSettings,
  defaults: Required<Omit<AdapterSettings, "alpha" | "targets">> = adapterDefaults,
): ResolvedAdapterSettings {
  const given = Object.fromEntries(Object.entries(settings).filter(([key, value]) => key in defaults && value !== undefined)) as Partial<
    typeof defaults
  >;
  const resolved = { ...defaults, ...given };
  const { rank, dropout, learningRate, weightDecay, batchSeconds, epochs, patience, seed } = resolved;
  const alpha = settings.alpha ?? rank;
  const check = (name: string, value: number, fits: boolean, wanted: string): void => {
    if (!fits) throw new UsmLiteError("INVALID_ARGUMENT", `${name} of an adapter is ${value}; it must be ${wanted}`);
  };
  const whole = (value: number, from: number, to = Number.MAX_SAFE_INTEGER): boolean =>
    Number.isInteger(value) && value >= from && value <= to;
  check("rank", rank, whole(rank, 1, maximumRank), `a whole number from 1 to ${maximumRank}`);
  check("epochs", epochs, whole(epochs, 1), "a whole number from 1");
  check("patience", patience, whole(patience, 1), "a whole number from 1");
  check("seed", seed, whole(seed, 0), "a whole number from 0");
  check("dropout", dropout, dropout >= 0 && dropout < 1, "from 0 to below 1");
  check("weightDecay", weightDecay, weightDecay >= 0 && weightDecay < 1, "from 0 to below 1");
  for (const [name, value] of Object.entries({ alpha, learningRate, batchSeconds })) {
    check(name, value, value > 0 && value < 1e6, "above 0 and below 1000000");
  }
  return {
    ...resolved,
    specAugment: "specAugment" in settings ? settings.specAugment : defaults.specAugment,
    targets: settings.targets ?? defaultTargets,
    maximumNorm: 1,
    scale: alpha / rank,
  };
}
