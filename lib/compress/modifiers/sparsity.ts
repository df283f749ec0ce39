/** `sparsity`: N:M pruning in training. */
import { z } from "zod";
import { withSparsity, type Sparsity } from "../../quant/weight_spec.js";
import type { MaskSchedule } from "../../sparse/schedule.js";
import { WeightPruning } from "../../train/weight_pruning.js";
import { modifierType } from "../modifier.js";

const step = z.number().int().nonnegative();

const keys = {
  pattern: z.string().transform((text, context): Sparsity => {
    const [, kept, of] = /^(\d+):(\d+)$/.exec(text) ?? [];
    if (kept && of && Number(kept) >= 1 && Number(kept) < Number(of) && Number(of) <= 16) return { kept: Number(kept), of: Number(of) };
    context.addIssue({ code: "custom", message: `"${text}" is no pattern; it is N:M with 1 <= N < M <= 16, such as 2:4` });
    return z.NEVER;
  }),
  schedule: z.enum(["one-shot", "few-shot", "every-step"]).default("one-shot"),
  /** First step that computes masks. */
  start: step.default(0),
  /** Of few-shot: how often. */
  shots: z.number().int().positive().default(4),
  /** Of few-shot: steps from one to the next. */
  interval: z.number().int().positive().default(100),
};

export const sparsity = modifierType("sparsity", keys, ({ pattern, schedule, start, shots, interval }) => ({
  specOf: (before) => withSparsity(before, pattern),
  train: ({ model, layers, masks, totalSteps }) => {
    const schedules: Record<typeof schedule, MaskSchedule> = {
      "one-shot": { kind: "one-shot", step: start },
      "few-shot": { kind: "few-shot", start, shots, interval },
      "every-step": { kind: "every-step", start },
    };
    return new WeightPruning(model, new Map(layers.map((name) => [name, pattern])), { schedule: schedules[schedule], masks, totalSteps });
  },
}));
