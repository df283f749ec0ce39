/** `gptq` and `sparsegpt`: weights solved for in one shot, in view of the inputs of their layers. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import { gptq as solveDense, sparseGpt as solveSparse } from "../../oneshot/second_order_rounding.js";
import type { WeightSpec } from "../../quant/weight_spec.js";
import { magnitudeMask } from "../../sparse/mask.js";
import { calibrationSchema, compressWithSpeech } from "../calibration.js";
import { modifierType, specSchema } from "../modifier.js";

const keys = {
  /** Absent: that of the stages before. */
  spec: specSchema.optional(),
  calibration: calibrationSchema.prefault({}),
  /** Share of the mean square of the inputs that is added to each. */
  damping: z.number().positive().max(10).default(0.01),
  /** Search for scales, instead of taking those that the largest weight asks for. */
  clip: z.boolean().default(true),
};

/** Keeps the masks of the stages before; a sparse layer that has none is pruned by magnitude first. */
export const gptq = modifierType("gptq", keys, ({ spec, calibration, damping, clip }) => ({
  specOf: (before) => given(spec, before, ({ bits }) => bits !== 32, "a number format to round to, such as int4"),
  speech: calibration,
  calibrate: (setup) =>
    compressWithSpeech(setup, calibration, ({ weight, spec: { text, sparsity }, mask }, inputs) => {
      const kept = sparsity && (mask ?? magnitudeMask(weight, sparsity.kept, sparsity.of));
      return solveDense(weight, text, inputs, { damping, clip, mask: kept });
    }),
}));

/** Chooses new masks, and rounds in the same pass where the spec has a number format. */
export const sparsegpt = modifierType("sparsegpt", keys, ({ spec, calibration, damping, clip }) => ({
  specOf: (before) => given(spec, before, ({ sparsity }) => sparsity !== undefined, "a spec with N:M, such as int4+2:4"),
  speech: calibration,
  calibrate: (setup) =>
    compressWithSpeech(setup, calibration, ({ weight, spec: { text } }, inputs) => solveSparse(weight, text, inputs, { damping, clip })),
}));

/** `spec`, or else that of the stages before. @throws UsmLiteError BAD_RECIPE when it is not what is needed */
export function given(spec: WeightSpec | undefined, before: WeightSpec, fits: (spec: WeightSpec) => boolean, needed: string): WeightSpec {
  const used = spec ?? before;
  if (fits(used)) return used;
  throw new UsmLiteError("BAD_RECIPE", `spec is ${used.text}; this modifier needs ${needed}`);
}
