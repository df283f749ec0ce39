/** `round-to-nearest`: weights are pruned by magnitude and rounded to the grid of their spec. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import { meanSquares } from "../../oneshot/input_moments.js";
import { searchScales } from "../../oneshot/scale_search.js";
import { fakeQuantize } from "../../quant/fake_quantize.js";
import { groupScales } from "../../quant/scale_rule.js";
import { magnitudeMask } from "../../sparse/mask.js";
import type { Tensor } from "../../tensor/tensor.js";
import { calibrationSchema, compressWithSpeech } from "../calibration.js";
import { changedLayer, type LayerState } from "../compression_state.js";
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
  /** That of the stages before, if it is of the same N:M. */
  const maskOf = (layer: LayerState): Tensor | undefined => {
    const { weight, mask } = changedLayer(layer, { spec });
    return spec.sparsity && (mask ?? magnitudeMask(weight, spec.sparsity.kept, spec.sparsity.of));
  };
  if (calibration) {
    return {
      specOf,
      speech: calibration,
      calibrate: (setup) => {
        if (spec.bits === 32) throw new UsmLiteError("BAD_RECIPE", `calibration is for scales, which ${spec.text} does not have`);
        return compressWithSpeech(setup, calibration, (layer, inputs) => {
          const mask = maskOf(layer);
          const { weight } = layer;
          return { spec, ...(mask ? { mask } : {}), ...searchScales(weight, spec.text, { mask, importance: meanSquares(inputs) }) };
        });
      },
    };
  }
  return {
    specOf,
    compressWeight: (layer) => {
      const mask = maskOf(layer);
      const { weight } = layer;
      if (spec.bits === 32) return { spec, ...(mask ? { mask } : {}) };
      const rule = scaleRuleOf(settings);
      const scales = groupScales(weight, spec.text, { mask, rule });
      // Packing rounds to the nearest level; these two have a threshold of their own.
      const rounded = rule.statistic === "threshold" || rule.statistic === "centred";
      return {
        spec,
        ...scales,
        ...(mask ? { mask } : {}),
        ...(rounded ? { weight: fakeQuantize(weight, spec.text, { mask, rule, ...scales }) } : {}),
      };
    },
  };
});
