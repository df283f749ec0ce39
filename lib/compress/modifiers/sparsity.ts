/** `sparsity`: pruning in training. */
import { z } from "zod";
import { UsmLiteError } from "../../errors.js";
import { withSparsity, type Sparsity } from "../../quant/weight_spec.js";
import { hasZero } from "../../train/integer_spec.js";
import { WeightPruning, type PruningPattern } from "../../train/weight_pruning.js";
import { checkedModifierType, type Conflicts } from "../modifier.js";
import { maskScheduleOf, maskSchedules, shotConflicts, shotKeys } from "./schedule_keys.js";

const step = z.number().int().nonnegative();

const keys = {
  /** N:M, or the share of weights that is pruned wherever they are, such as "50%". */
  pattern: z.string().transform((text, context): PruningPattern => {
    const [, kept, of] = /^(\d+):(\d+)$/.exec(text) ?? [];
    if (kept && of && Number(kept) >= 1 && Number(kept) < Number(of) && Number(of) <= 16) return { kept: Number(kept), of: Number(of) };
    const [, percent] = /^(\d+(?:\.\d+)?)\s*%$/.exec(text) ?? [];
    if (percent && Number(percent) > 0 && Number(percent) < 100) return { share: Number(percent) / 100 };
    context.addIssue({
      code: "custom",
      message: `"${text}" is no pattern; it is N:M with 1 <= N < M <= 16, such as 2:4, or a share, such as 50%`,
    });
    return z.NEVER;
  }),
  score: z.enum(["magnitude", "wanda", "learned"]).default("magnitude"),
  schedule: z.enum(maskSchedules).default("one-shot"),
  ...shotKeys,
  /** Of few-shot: each shot prunes more than the one before. */
  gradual: z.boolean().default(false),
  /** What pruned weights get: no gradient, that of a kept weight, or that and a pull towards zero. */
  gradient: z.enum(["none", "straight-through", "sr-ste"]).default("none"),
  /** Of sr-ste: the strength of the pull, by default 2e-4. */
  decay: z.number().nonnegative().optional(),
  fadeSteps: step.default(0),
};

/** With learned scores pruned weights are gone at once, and their gradients go to the scores. */
const conflicts: Conflicts<typeof keys> = (settings) => {
  const { score, gradient, decay, fadeSteps } = settings;
  const withScores = "is not for score: learned, whose scores get what pruned weights would get; leave it out";
  return {
    ...shotConflicts(settings),
    gradient: score === "learned" && gradient !== "none" && `gradient ${withScores}`,
    fadeSteps: score === "learned" && fadeSteps > 0 && `fadeSteps ${withScores}`,
    decay: gradient !== "sr-ste" && decay !== undefined && "decay is for gradient: sr-ste; leave it out",
  };
};

export const sparsity = checkedModifierType("sparsity", keys, conflicts, (settings) => {
  const { pattern, score, gradual, gradient, decay, fadeSteps } = settings;
  const structured: Sparsity | undefined = "share" in pattern ? undefined : pattern;
  return {
    specOf: (before) => withSparsity(before, structured),
    train: ({ model, layers, specs, masks, totalSteps }) => {
      const withoutZero = [...specs.values()].find((spec) => !hasZero(spec));
      if (!structured && withoutZero) {
        throw new UsmLiteError(
          "BAD_RECIPE",
          `${withoutZero.text} has no zero for weights that are pruned anywhere; prune N:M or take an int format`,
        );
      }
      return new WeightPruning(model, new Map(layers.map((name) => [name, pattern])), {
        schedule: maskScheduleOf(settings),
        masks,
        totalSteps,
        score,
        gradual,
        straightThrough: gradient !== "none",
        decay: gradient === "sr-ste" ? (decay ?? 2e-4) : 0,
        fadeSteps,
      });
    },
  };
});
