/** `wanda`: pruning by weight times input, then rounding to the nearest level. */
import { z } from "zod";
import { meanSquares } from "../../oneshot/input_moments.js";
import { searchScales } from "../../oneshot/scale_search.js";
import { unstructuredWandaMask, wandaMask } from "../../oneshot/wanda.js";
import { fakeQuantize } from "../../quant/fake_quantize.js";
import { calibrationSchema, compressWithSpeech } from "../calibration.js";
import { modifierType, specSchema } from "../modifier.js";
import { given } from "./second_order.js";

const keys = {
  /** Absent: that of the stages before. */
  spec: specSchema.optional(),
  /** Share of each output channel that is pruned wherever its weights are, for dense specs: it saves no byte. */
  unstructured: z.number().gt(0).lt(1).optional(),
  calibration: calibrationSchema.extend({ sequential: z.boolean().default(false) }).prefault({}),
  /** Search for scales, instead of taking those that the largest weight asks for. */
  clip: z.boolean().default(true),
};

export const wanda = modifierType("wanda", keys, ({ spec, unstructured, calibration, clip }) => ({
  specOf: (before) =>
    unstructured === undefined
      ? given(spec, before, ({ sparsity }) => sparsity !== undefined, "a spec with N:M, such as int4+2:4, or the key unstructured")
      : given(spec, before, ({ sparsity }) => sparsity === undefined, "a dense spec where unstructured is given"),
  speech: calibration,
  calibrate: (setup) =>
    compressWithSpeech(setup, calibration, ({ weight, spec: { text, bits, sparsity } }, inputs) => {
      const mask = sparsity ? wandaMask(weight, sparsity, inputs) : unstructuredWandaMask(weight, unstructured as number, inputs);
      const scales = clip && bits < 32 ? searchScales(weight, text, { mask, importance: meanSquares(inputs) }) : {};
      // Weights of an N:M mask stay for a later mask; without one the zeros must be in the weight itself.
      return sparsity ? { mask, ...scales } : { weight: fakeQuantize(weight, "float32", { mask }), ...scales };
    }),
}));
