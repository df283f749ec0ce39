/** `many-sizes`: one run trains several compressed versions of a model; each is written to a folder of its own. */
import { z } from "zod";
import { bitsPerWeight } from "../../quant/weight_spec.js";
import type { TrainableNetwork } from "../../models/trainable.js";
import { ManySizes, type Size } from "../../train/many_sizes.js";
import { checkedModifierType, specSchema } from "../modifier.js";
import { scaleKeys, scaleRuleOf } from "./scale_keys.js";
import { maskScheduleOf, maskSchedules, shotConflicts, shotKeys } from "./schedule_keys.js";

const sizeSchema = z.strictObject({
  spec: specSchema,
  /** Of its folder; default: the spec with - for : and /. */
  name: z
    .string()
    .regex(/^[\w.+-]+$/, "a name has letters, digits, - + . and _ only")
    .optional(),
  ...scaleKeys,
});

const keys = {
  sizes: z
    .array(sizeSchema)
    .min(2)
    .transform((sizes, context): readonly Size[] => {
      const named = sizes.map(({ name, spec, ...scale }) => ({
        name: name ?? spec.text.replace(/[:/]/g, "-"),
        spec,
        rule: scaleRuleOf(scale),
      }));
      const twice = named.find(({ name }, index) => named.findIndex((other) => other.name === name) !== index);
      if (twice) context.addIssue({ code: "custom", message: `two sizes are called "${twice.name}"` });
      return named.sort((a, b) => bitsPerWeight(b.spec.text, 1024, 1024) - bitsPerWeight(a.spec.text, 1024, 1024));
    }),
  /** Sizes trained in each step: the largest, the smallest and others drawn anew. */
  perStep: z.number().int().positive().default(3),
  /** Weight of what smaller sizes learn from the largest in the step. */
  distillation: z.number().nonnegative().default(1),
  /** When the masks of N:M sizes are computed; frozen in between. */
  schedule: z.enum(maskSchedules).default("few-shot"),
  ...shotKeys,
  stopScaleGradient: z.boolean().default(false),
};

export const manySizes = checkedModifierType(
  "many-sizes",
  keys,
  shotConflicts,
  ({ sizes, perStep, distillation, stopScaleGradient, ...times }) => ({
    // Whatever is said of the model as a whole is said of its largest size.
    specOf: () => (sizes[0] as Size).spec,
    wholeModel: true,
    train: ({ model, layers, totalSteps }) => {
      const network = model as TrainableNetwork;
      const blankId = network.kind === "sequence-to-sequence" ? -1 : network.blankId;
      return new ManySizes(model, sizes, layers, {
        perStep,
        distillation,
        stopScaleGradient,
        masks: maskScheduleOf(times),
        blankId,
        totalSteps,
      });
    },
  }),
);
