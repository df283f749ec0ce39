/** Recipes: what `usm-lite compress` does to a model, as a YAML file. docs/recipes.md describes every key. */
import { dirname, resolve } from "node:path";
import { z } from "zod";
import { checkedValue, parseYaml } from "../checkpoint/checked_value.js";
import { readTextFile } from "../checkpoint/json_file.js";
import { UsmLiteError } from "../errors.js";
import { parseWeightSpec, type WeightSpec } from "../quant/weight_spec.js";
import type { MaskSchedule } from "../sparse/schedule.js";

const step = z.number().int().nonnegative();

const maskSchema = z
  .discriminatedUnion("schedule", [
    z.strictObject({ schedule: z.literal("one-shot"), start: step.default(0) }),
    z.strictObject({
      schedule: z.literal("few-shot"),
      start: step.default(0),
      shots: z.number().int().positive().default(4),
      interval: z.number().int().positive().default(100),
    }),
    z.strictObject({ schedule: z.literal("every-step"), start: step.default(0) }),
  ])
  .default({ schedule: "one-shot", start: 0 })
  .transform(({ schedule: kind, start, ...rest }): MaskSchedule =>
    kind === "one-shot" ? { kind, step: start } : ({ kind, start, ...rest } as MaskSchedule),
  );

const fineTuningSchema = z.strictObject({
  steps: z.number().int().positive(),
  learningRate: z.number().positive().default(3e-4),
  warmUpSteps: step.default(50),
  batchSeconds: z.number().positive().default(60),
  weightDecay: z.number().nonnegative().default(1e-3),
  seed: z.number().int().nonnegative().default(1),
  emaDecay: z.number().min(0).lt(1).default(0),
  specAugment: z.boolean().default(true),
  speedPerturbation: z.boolean().default(true),
  /** Features of all utterances are kept here; default: `features` in the folder of the run. */
  features: z.string().optional(),
});

const recipeSchema = z.strictObject({
  spec: z.string(),
  layers: z.array(z.strictObject({ pattern: z.string().min(1), spec: z.string() })).default([]),
  exclude: z.array(z.string().min(1)).default([]),
  stopScaleGradient: z.boolean().default(false),
  mask: maskSchema,
  fineTuning: fineTuningSchema.optional(),
});

/** Training with the compressed weights in the forward pass. */
export type FineTuning = z.infer<typeof fineTuningSchema>;

/** A checked recipe. */
export interface Recipe {
  /** How every linear layer of the Conformer blocks is coded unless `layers` or `exclude` says otherwise. */
  readonly spec: WeightSpec;
  /** The first matching pattern decides; `*` stands for any run of characters. */
  readonly layers: readonly { readonly pattern: string; readonly spec: WeightSpec }[];
  /** Patterns of layers that stay float32. */
  readonly exclude: readonly string[];
  /** Whether the quantization scale is a constant in the backward pass. */
  readonly stopScaleGradient: boolean;
  readonly mask: MaskSchedule;
  readonly fineTuning: FineTuning | undefined;
}

/**
 * Reads a recipe. Relative paths in it are relative to its folder.
 * @param file path of a YAML file
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE, BAD_RECIPE (naming file, line or key), UNSUPPORTED_SPEC
 */
export function readRecipe(file: string): Recipe {
  const recipe = parseRecipe(readTextFile(file, "BAD_RECIPE"), file);
  const { fineTuning } = recipe;
  if (fineTuning?.features === undefined) return recipe;
  return { ...recipe, fineTuning: { ...fineTuning, features: resolve(dirname(file), fineTuning.features) } };
}

/**
 * A recipe that is no file: relative paths in it stay as they are.
 * @param source what error messages call it
 */
export function parseRecipe(text: string, source: string): Recipe {
  const recipe = checkedValue(recipeSchema, parseYaml(text, source, "BAD_RECIPE"), {
    source,
    code: "BAD_RECIPE",
    hint: "docs/recipes.md lists the keys",
  });
  const spec = (value: string, key: string): WeightSpec => {
    try {
      return parseWeightSpec(value);
    } catch (cause) {
      throw new UsmLiteError("UNSUPPORTED_SPEC", `${source}: key "${key}": ${(cause as Error).message}`, { cause });
    }
  };
  const { fineTuning, layers, ...rest } = recipe;
  return {
    ...rest,
    spec: spec(recipe.spec, "spec"),
    layers: layers.map((layer, index) => ({ ...layer, spec: spec(layer.spec, `layers.${index}.spec`) })),
    fineTuning,
  };
}
