/** `round-to-nearest`: weights are pruned by magnitude and rounded to the grid of their spec, without data. */
import { fakeQuantize } from "../../quant/fake_quantize.js";
import { groupScales } from "../../quant/scale_rule.js";
import { magnitudeMask } from "../../sparse/mask.js";
import { modifierType, specSchema } from "../modifier.js";
import { scaleKeys, scaleRuleOf } from "./scale_keys.js";

export const roundToNearest = modifierType("round-to-nearest", { spec: specSchema, ...scaleKeys }, ({ spec, ...settings }) => ({
  specOf: () => spec,
  compressWeight: ({ weight, mask: before }) => {
    const { sparsity } = spec;
    const mask = sparsity && (before ?? magnitudeMask(weight, sparsity.kept, sparsity.of));
    if (spec.bits === 32) return mask ? { mask } : {};
    const rule = scaleRuleOf(settings);
    const scales = groupScales(weight, spec.text, { mask, rule });
    // Packing rounds to the nearest level; these two have a threshold of their own.
    const rounded = rule.statistic === "threshold" || rule.statistic === "centred";
    return { ...scales, ...(mask ? { mask } : {}), ...(rounded ? { weight: fakeQuantize(weight, spec.text, { mask, rule, ...scales }) } : {}) };
  },
}));
