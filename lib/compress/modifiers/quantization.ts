/** `quantization`: quantization-aware training of weights. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import { activationCodings, type ActivationCoding } from "../../quant/activation_coding.js";
import type { GivenScales } from "../../quant/packed_weight.js";
import { withSparsity, type WeightSpec } from "../../quant/weight_spec.js";
import { WeightQuantization } from "../../train/weight_quantization.js";
import type { CompressionState } from "../compression_state.js";
import { checkedModifierType, specSchema, type Conflicts } from "../modifier.js";
import { scaleKeys, scaleRuleOf } from "./scale_keys.js";

const keys = {
  /** Number format and group; absent: that of the stages before. The N:M part is that of `sparsity`. */
  spec: specSchema
    .refine(({ sparsity, bits }) => !sparsity && bits !== 32, "a dense number format is needed; N:M is for the modifier sparsity")
    .optional(),
  ...scaleKeys,
  /** `kept`: those that the stage before left. */
  scale: z.enum([...scaleKeys.scale.unwrap().options, "kept"]).default("format"),
  /** Scales are trained, from those of the rule. */
  learned: z.boolean().default(false),
  /** Above 0: scales are moving averages over the steps with this decay. */
  scaleAverage: z.number().min(0).lt(1).default(0),
  /** The scale is a constant in the backward pass. */
  stopScaleGradient: z.boolean().default(false),
  /** Whether weights beyond the outermost levels get a gradient; default: unless scales are learned. */
  gradient: z.enum(["plain", "clipped"]).optional(),
  rounding: z.enum(["nearest", "stochastic", "noise"]).default("nearest"),
  /** Added to the gradient of every scale. */
  scaleDecay: z.number().nonnegative().default(0),
  /**
   * What layers multiply by, in training as in the packed model; absent: what the stages before said, which is what will be served, or else
   * floats in training and `int8` in the packed model.
   */
  activations: z.enum(activationCodings).optional(),
  /** First step that quantizes. */
  start: z.number().int().nonnegative().default(0),
};

const inIntegers = (activations: ActivationCoding | undefined): boolean => activations !== undefined && activations !== "float32";

const conflicts: Conflicts<typeof keys> = (settings) => {
  const { scale, clip, clipSearch, powerOfTwo, learned, scaleAverage, stopScaleGradient, scaleDecay, rounding, activations } = settings;
  const withKept = "does nothing with scale: kept, which takes the scales of the stage before as they are; leave it out";
  const kept = scale === "kept";
  const constant = !learned && (kept || scaleAverage > 0 || stopScaleGradient);
  return {
    clip: kept && clip !== 1 && `clip ${withKept}`,
    clipSearch: kept && clipSearch !== undefined && `clipSearch ${withKept}`,
    powerOfTwo: kept && powerOfTwo && `powerOfTwo ${withKept}`,
    scaleDecay: constant && scaleDecay > 0 && "scaleDecay is for scales that get a gradient, which kept, averaged and stopped ones do not",
    rounding:
      rounding !== "nearest" && inIntegers(activations) && `${rounding} rounding gives no whole numbers; leave it or activations out`,
  };
};

/** @throws UsmLiteError BAD_RECIPE where the stages before multiply whole numbers, which `rounding` does not give */
function handedOn(state: CompressionState, names: Iterable<string>, rounding: string): ReadonlyMap<string, ActivationCoding> {
  const activations = state.activations(names);
  const [name, coding] = [...activations].find(([, one]) => inIntegers(one)) ?? [];
  if (name === undefined || rounding === "nearest") return activations;
  throw new UsmLiteError(
    "BAD_RECIPE",
    `${rounding} rounding gives no whole numbers for the ${coding} activations that stages before gave "${name}"; add activations: float32`,
  );
}

function keptScales(state: CompressionState, name: string, spec: WeightSpec): GivenScales {
  const { scale, zeroPoint, spec: before } = state.layer(name);
  if (!scale) throw new UsmLiteError("BAD_RECIPE", `the stages before left no scales for "${name}"; take another scale than kept`);
  const [left, now] = [before, spec].map((one) => withSparsity(one, undefined).text);
  if (left !== now) {
    throw new UsmLiteError(
      "BAD_RECIPE",
      `the scales that the stages before left for "${name}" are those of ${left}; take another scale than kept`,
    );
  }
  return { scale, ...(zeroPoint ? { zeroPoint } : {}) };
}

export const quantization = checkedModifierType("quantization", keys, conflicts, (settings) => ({
  specOf: (before) => {
    if (settings.spec) return withSparsity(settings.spec, before.sparsity);
    if (before.bits === 32) throw new UsmLiteError("BAD_RECIPE", "no stage before gave it a number format; name one as `spec`");
    return before;
  },
  train: ({ model, state, specs, masks, totalSteps }) => {
    const { learned, scaleAverage, stopScaleGradient, gradient, rounding, scaleDecay, activations, start } = settings;
    if (start >= totalSteps) {
      throw new UsmLiteError(
        "BAD_RECIPE",
        `start must be below the steps of training, ${totalSteps}; otherwise nothing is quantized in training`,
      );
    }
    const { scale, ...others } = settings;
    const rule = scale === "kept" ? {} : scaleRuleOf({ ...others, scale });
    const initial = new Map(scale === "kept" ? [...specs].map(([name, spec]) => [name, keptScales(state, name, spec)] as const) : []);
    return new WeightQuantization(model, specs, {
      masks,
      rule,
      initial,
      learned,
      scaleAverage,
      stopScaleGradient,
      rounding,
      scaleDecay,
      start,
      activations: activations ?? handedOn(state, specs.keys(), rounding),
      ...(gradient ? { clipGradient: gradient === "clipped" } : {}),
    });
  },
}));
