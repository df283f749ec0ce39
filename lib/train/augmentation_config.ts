/** The keys of configurations and recipes that say how training speech is varied. */
import { z } from "zod";
import type { NoiseAugmentOptions } from "../data/noise_augment.js";
import type { SpecAugmentOptions } from "../data/spec_augment.js";
import type { SpeechBatchesOptions } from "../data/speech_batches.js";

const whole = z.number().int().nonnegative();
const share = z.number().min(0).max(1);

/** See {@link SpecAugmentOptions}. */
export const specAugmentSchema = z.strictObject({
  frequencyMasks: whole.optional(),
  frequencyMaskShare: share.optional(),
  timeMasksPerFrame: share.optional(),
  maximumTimeMasks: whole.optional(),
  timeMaskShare: share.optional(),
});

/** See {@link NoiseAugmentOptions}. */
export const noiseSchema = z.strictObject({ gainDecibels: z.number().nonnegative().optional(), noiseProbability: share.optional() });

type Given<Options> = { readonly [Key in keyof Options]?: Options[Key] | undefined };

/** What batches take: without the keys that a configuration left out. */
export function augmentationOf({
  specAugment,
  noise,
}: {
  readonly specAugment?: Given<SpecAugmentOptions> | undefined;
  readonly noise?: Given<NoiseAugmentOptions> | undefined;
}): Pick<SpeechBatchesOptions, "specAugment" | "noise"> {
  return {
    ...(specAugment ? { specAugment: definedOnly<SpecAugmentOptions>(specAugment) } : {}),
    ...(noise ? { noise: definedOnly<NoiseAugmentOptions>(noise) } : {}),
  };
}

const definedOnly = <Options extends object>(options: Given<Options>): Options =>
  Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined)) as Options;
