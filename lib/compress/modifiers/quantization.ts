/** `quantization`: quantization-aware training of weights. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import { withSparsity } from "../../quant/weight_spec.js";
import { WeightQuantization } from "../../train/weight_quantization.js";
import { modifierType, specSchema } from "../modifier.js";

const keys = {
  /** Number format and group; absent: that of the stages before. The N:M part is that of `sparsity`. */
  spec: specSchema.refine(({ sparsity, bits }) => !sparsity && bits !== 32, "a dense number format is needed; N:M is for the modifier sparsity").optional(),
  /** The scale is a constant in the backward pass. */
  stopScaleGradient: z.boolean().default(false),
};

export const quantization = modifierType("quantization", keys, ({ spec, stopScaleGradient }) => ({
  specOf: (before) => {
    if (spec) return withSparsity(spec, before.sparsity);
    if (before.bits === 32) throw new UsmLiteError("BAD_RECIPE", "no stage before gave it a number format; name one as `spec`");
    return before;
  },
  train: ({ model, specs, masks }) => new WeightQuantization(model, specs, { masks, stopScaleGradient }),
}));
