/** Recipes: what `usm-lite compress` does to a model, as a YAML file. docs/recipes.md describes every key. */
import { dirname, resolve } from "node:path";
import { z } from "zod";
import { readTextFile } from "../checkpoint/json_file.js";
import { YamlDocument, type YamlPath } from "../checkpoint/yaml_document.js";
import { noiseSchema, specAugmentSchema } from "../train/augmentation_config.js";
import { patternSchema } from "./layer_selection.js";
import type { Modifier } from "./modifier.js";
import { modifierTypes } from "./modifiers/index.js";

const whole = z.number().int().nonnegative();

const trainingSchema = z.strictObject({
  steps: z.number().int().positive(),
  learningRate: z.number().positive().default(3e-4),
  warmUpSteps: whole.default(50),
  batchSeconds: z.number().positive().default(60),
  weightDecay: z.number().nonnegative().default(1e-3),
  seed: whole.default(1),
  /** Decay of the moving average of weights; 0: none. */
  emaDecay: z.number().min(0).lt(1).default(0),
  /** Of sequence-to-sequence models: share of each label's probability that is spread over all tokens. */
  labelSmoothing: z.number().min(0).lt(1).default(0),
  /** `true`: few and narrow masks. */
  specAugment: z.union([z.boolean(), specAugmentSchema]).default(true),
  /** Absent: no noise. */
  noise: noiseSchema.optional(),
  speedPerturbation: z.boolean().default(true),
  /** Parameters that stay as they are. */
  freeze: z.array(patternSchema).default([]),
  /** Factors of the learning rate; the last pattern that matches a parameter decides. */
  learningRates: z.array(z.strictObject({ targets: z.array(patternSchema).min(1), scale: z.number().positive() })).default([]),
  /** Each block of the encoder is trained alone, one after another, to put out what that of the float model does. Absent: all together, on transcripts. */
  blockwise: z.strictObject({ utterances: z.number().int().positive().default(2048) }).optional(),
  /** Features of all utterances are kept here; default: `features` in the folder of the run. */
  features: z.string().optional(),
});

const stageSchema = z.strictObject({
  name: z
    .string()
    .regex(/^[\w-]+$/, "a name has letters, digits, - and _ only")
    .optional(),
  modifiers: z.array(z.looseObject({ type: z.string() })).default([]),
  training: trainingSchema.optional(),
});

const recipeSchema = z.strictObject({ stages: z.array(z.unknown()).min(1) });

/** Fine-tuning with the modifiers of a stage in the forward pass. */
export type Training = z.infer<typeof trainingSchema>;

/** One step of a recipe. */
export interface Stage {
  /** Unique within the recipe. */
  readonly name: string;
  readonly modifiers: readonly Modifier[];
  /** Absent: the modifiers change the weights once, in the order of the recipe. */
  readonly training: Training | undefined;
  /** File and line of what lies at these keys of `training`, for error messages: "r.yaml:7". */
  placeInTraining(...keys: readonly (string | number)[]): string;
}

/** A checked recipe. */
export interface Recipe {
  /** What error messages call it. */
  readonly source: string;
  readonly stages: readonly Stage[];
  /** As in the file, to tell recipes apart. */
  readonly document: unknown;
}

/**
 * Reads a recipe. Relative paths in it are relative to its folder.
 * @param file path of a YAML file
 * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE; BAD_RECIPE, UNSUPPORTED_SPEC naming file, line and key
 *
 * @example
 * await compressModel({ model: "float", recipe: readRecipe("recipes/usm-lite.yaml"), manifest: "train.jsonl", out: "packed" });
 */
export function readRecipe(file: string): Recipe {
  const recipe = parseRecipe(
    readTextFile(file, "BAD_RECIPE", "name a YAML file, such as one of recipes/; docs/recipes.md explains them"),
    file,
  );
  const absolute = (training: Training): Training =>
    training.features === undefined ? training : { ...training, features: resolve(dirname(file), training.features) };
  return { ...recipe, stages: recipe.stages.map((stage) => (stage.training ? { ...stage, training: absolute(stage.training) } : stage)) };
}

/**
 * A recipe that is no file: relative paths in it stay as they are.
 * @param source what error messages call it
 *
 * @example
 * const recipe = parseRecipe("stages: [{modifiers: [{type: round-to-nearest, spec: int8}]}]", "a recipe of mine");
 */
export function parseRecipe(text: string, source: string): Recipe {
  const document = new YamlDocument(text, source, { code: "BAD_RECIPE", hint: "docs/recipes.md lists the keys" });
  const { stages } = document.check(recipeSchema);
  const names = new Set<string>();
  return {
    source,
    document: document.value,
    stages: stages.map((_, index) => {
      const path = ["stages", index];
      const stage = document.check(stageSchema, path);
      const name = stage.name ?? `stage-${index + 1}`;
      if (names.has(name)) throw document.error([...path, "name"], `another stage is called "${name}" too`);
      names.add(name);
      const modifiers = stage.modifiers.map(({ type }, place) =>
        parseModifier(document, type, [...path, "modifiers", place], stage.training !== undefined),
      );
      return { name, modifiers, training: stage.training, placeInTraining: (...keys) => document.place([...path, "training", ...keys]) };
    }),
  };
}

function parseModifier(document: YamlDocument, type: string, path: YamlPath, training: boolean): Modifier {
  const found = modifierTypes.find((one) => one.type === type);
  if (!found) {
    throw document.error(
      [...path, "type"],
      `there is no modifier "${type}"; these are: ${modifierTypes.map((one) => one.type).join(", ")}`,
    );
  }
  const { selection, methods } = found.create(document.check(found.schema, path));
  const once = methods.compressWeight ?? methods.calibrate ?? methods.chooseSpecs;
  const [fits, fitsElsewhere] = training ? [methods.train, once] : [once, methods.train];
  if (fitsElsewhere && !fits) {
    throw document.error(
      [...path, "type"],
      training
        ? `${type} changes weights once; it belongs in a stage without training`
        : `${type} works in training; its stage needs the key "training"`,
    );
  }
  return { ...methods, type, selection, source: document.place(path) };
}

/** Whether a recipe needs speech. */
export const needsTrainingSpeech = ({ stages }: Recipe): boolean =>
  stages.some(
    ({ training, modifiers }) => training !== undefined || modifiers.some(({ calibrate, chooseSpecs }) => calibrate ?? chooseSpecs),
  );

/** Of the modifiers of one type in a stage, the last that names a weight has it: each modifier with the weights it has. */
export function assignedWeights(
  stage: Stage,
  selected: (modifier: Modifier) => readonly string[],
): ReadonlyMap<Modifier, readonly string[]> {
  const owner = new Map<string, Modifier>();
  const all = new Map(stage.modifiers.map((modifier) => [modifier, selected(modifier)]));
  for (const [modifier, names] of all) for (const name of names) owner.set(`${modifier.type} ${name}`, modifier);
  return new Map(
    [...all].map(([modifier, names]) => [modifier, names.filter((name) => owner.get(`${modifier.type} ${name}`) === modifier)]),
  );
}
