/** The keys of modifiers that say how the scales of quantized weights are found. */
import { z } from "zod";
import type { ScaleRule } from "../../quant/scale_rule.js";

export const scaleKeys = {
  /** What is measured of the weights that share a scale. */
  scale: z.enum(["format", "maximum", "edge", "mean", "threshold", "centred"]).default("format"),
  /** Multiplies what is measured. */
  clip: z.number().min(0.01).max(100).default(1),
  /** Each scale tries several values of `clip`. */
  clipSearch: z
    .strictObject({ steps: z.number().int().min(2).max(1000).default(15), lowest: z.number().min(0.01).max(1).default(0.3) })
    .optional(),
  powerOfTwo: z.boolean().default(false),
};

/** The rule that these keys describe. */
export function scaleRuleOf({ scale, clip, clipSearch, powerOfTwo }: z.output<z.ZodObject<typeof scaleKeys>>): ScaleRule {
  return { statistic: scale, clip, powerOfTwo, ...(clipSearch ? { search: clipSearch } : {}) };
}
