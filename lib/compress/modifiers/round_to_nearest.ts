/** `round-to-nearest`: weights are pruned by magnitude and rounded to the grid of their spec. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import { meanSquares } from "../../oneshot/input_moments.js";
import { searchScales } from "../../oneshot/scale_search.js";
import { fakeQuantize } from "../../quant/fake_quantize.js";
import { groupScales } from "../../quant/scale_rule.js";
import { magnitudeMask } from "../../sparse/mask.js";
import { calibrationSchema, compressWithSpeech } from "../calibration.js";
import { modifierType, specSchema } from "../modifier.js";
import { scaleKeys, scaleRuleOf } from "./scale_keys.js";

const keys = {
  spec: specSchema,
  ...scaleKeys,
  /** Present: scales are searched by what they do to the outputs of the layer, for which speech is needed. */
  calibration: calibrationSchema.extend({ sequential: z.boolean().default(false) }).optional(),
};

export const roundToNearest = modifierType("round-to-nearest", keys, ({ spec, calibration, ...settings }) => {
  const specOf = () => spec;
  if (calibration) {
    return {
      specOf,
      speech: calibration,
      calibrate: (setup) => {
        if (spec.bits === 32) throw new UsmLiteError("BAD_RECIPE", `calibration is for scales, which ${spec.text} does not have`);
        return compressWithSpeech(setup, calibration, ({ weight, mask: before }, inputs) => {
          const mask = spec.sparsity && (before ?? magnitudeMask(weight, spec.sparsity.kept, spec.sparsity.of));
          return { ...(mask ? { mask } : {}), ...searchScales(weight, spec.text, { mask, importance: meanSquares(inputs) }) };
        });
      },
    };
  }
  return {
    specOf,
    compressWeight: ({ weight, mask: before }) => {
      const { sparsity } = spec;
      const mask = sparsity && (before ?? magnitudeMask(weight, sparsity.kept, sparsity.of));
      if (spec.bits === 32) return mask ? { mask } : {};
      const rule = scaleRuleOf(settings);
      const scales = groupScales(weight, spec.text, { mask, rule });
      // Packing rounds to the nearest level; these two have a threshold of their own.
      const rounded = rule.statistic === "threshold" || rule.statistic === "centred";
      return {
        ...scales,
        ...(mask ? { mask } : {}),
        ...(rounded ? { weight: fakeQuantize(weight, spec.text, { mask, rule, ...scales }) } : {}),
      };
    },
  };
});
