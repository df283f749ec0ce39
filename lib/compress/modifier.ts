/** What the entries of `modifiers` in a recipe are: each one method of compression. */
import { z } from "zod";
import { UsmLiteError } from "../errors.js";
import { parseWeightSpec, type WeightSpec } from "../quant/weight_spec.js";
import type { TrainableModel, TrainingBatch } from "../train/trainable_model.js";
import type { TrainingModifier } from "../train/training_modifier.js";
import type { MasksInForce } from "../train/weight_pruning.js";
import type { CompressionPlan } from "./compression_plan.js";
import type { CompressionState, LayerState } from "./compression_state.js";
import { selectionKeys, type LayerSelection } from "./layer_selection.js";

/** A checked modifier of a recipe. It holds settings and no tensors. */
export interface Modifier extends ModifierMethods {
  readonly type: string;
  readonly selection: LayerSelection;
  /** Where it stands in the recipe, for error messages: "r.yaml:4". */
  readonly source: string;
}

/** What a modifier does. Those without any of the last four may only change specs. */
export interface ModifierMethods {
  /** Spec of a selected layer, given what came before ("float32" at first). Absent: specs stay. */
  specOf?(before: WeightSpec): WeightSpec;
  /**
   * In a stage without training: makes a weight what it shall be, from itself alone. Called weight by weight, so that
   * models of any size and family fit into memory. Its tensors belong to the caller's scope.
   */
  compressWeight?(layer: LayerState): Partial<LayerState>;
  /** In a stage without training: changes weights in view of the model and of speech. */
  calibrate?(setup: CalibrationSetup): void | Promise<void>;
  /**
   * Specs that depend on speech: takes the place of what {@link ModifierMethods.specOf} said, which then only is the most
   * that a layer may become. In a stage without training.
   */
  chooseSpecs?(setup: CalibrationSetup): Promise<CompressionPlan>;
  /** How much speech {@link ModifierMethods.calibrate} or {@link ModifierMethods.chooseSpecs} look at. */
  readonly speech?: { readonly utterances: number; readonly sequential: boolean };
  /** It looks at outputs of the whole model, so that blocks cannot be trained alone with it. */
  readonly wholeModel?: boolean;
  /** In a stage with training: what takes part in its steps. */
  train?(setup: TrainingSetup): TrainingModifier;
}

/** A kind of modifier, as the table in modifiers/index.ts lists them. */
export interface ModifierType {
  readonly type: string;
  readonly schema: z.ZodType;
  /** @param settings what `schema` made of the entry */
  create(settings: unknown): { readonly selection: LayerSelection; readonly methods: ModifierMethods };
}

interface LayersSetup {
  readonly model: TrainableModel;
  /** Weights, masks and scales that the stages before left. */
  readonly state: CompressionState;
  /** Names of the weights that this modifier has, in the order of the model. */
  readonly layers: readonly string[];
  /** The specs of these after all modifiers of this stage. */
  readonly specs: ReadonlyMap<string, WeightSpec>;
  readonly onStatus: (sentence: string) => void;
}

/** What a modifier, or training, did to one layer: a line of `layers.jsonl`. Errors are relative squares. */
export interface LayerRecord {
  readonly layer: string;
  readonly spec: string;
  /** What pruning and rounding take from the weight. */
  readonly weightError: number;
  /** What they take from the output of the layer, over the calibration speech. */
  readonly outputError?: number;
  readonly seconds?: number;
}

export interface CalibrationSetup extends LayersSetup {
  /** Notes what was done to a layer, for the report of the run. */
  record(layer: LayerRecord): void;
  /**
   * Batches of training speech without augmentation. Their tensors belong to the scope of the caller.
   * @throws UsmLiteError INVALID_ARGUMENT without `--data`
   */
  calibrationBatches(options: { readonly utterances: number; readonly seed: number }): Promise<readonly TrainingBatch[]>;
}

export interface TrainingSetup extends LayersSetup {
  /** Masks that weights are multiplied by; whoever prunes keeps it. At first those that the stages before left. */
  readonly masks: MasksInForce;
  readonly totalSteps: number;
  readonly seed: number;
  /** Folder of the float model that is compressed, for teachers. */
  readonly modelFolder: string;
  /** What it was loaded for, where it has weights for each language; teachers that do are loaded for the same. */
  readonly language: string | undefined;
}

/** `cause` with the place of the modifier whose method threw it, and its type. */
export function modifierError({ source, type }: Modifier, cause: unknown): unknown {
  return cause instanceof UsmLiteError ? new UsmLiteError(cause.code, `${source}: ${type}: ${cause.message}`, { cause }) : cause;
}

/** By key, why it can do nothing beside the other settings: such a key is refused, not ignored. False where it can. */
export type Conflicts<Keys extends z.ZodRawShape> = (settings: z.output<z.ZodObject<Keys>>) => Readonly<Record<string, string | false>>;

/** A {@link ModifierType} whose entry has the keys of `keys` besides `type`, `targets` and `ignore`. */
export function modifierType<Keys extends z.ZodRawShape>(
  type: string,
  keys: Keys,
  methods: (settings: z.output<z.ZodObject<Keys>>) => ModifierMethods,
): ModifierType {
  return checkedModifierType(type, keys, () => ({}), methods);
}

/** {@link modifierType} with keys that depend on others. */
export function checkedModifierType<Keys extends z.ZodRawShape>(
  type: string,
  keys: Keys,
  conflicts: Conflicts<Keys>,
  methods: (settings: z.output<z.ZodObject<Keys>>) => ModifierMethods,
): ModifierType {
  return {
    type,
    schema: z.strictObject({ type: z.literal(type), ...selectionKeys, ...keys }).superRefine((settings, context) => {
      for (const [key, message] of Object.entries(conflicts(settings as z.output<z.ZodObject<Keys>>))) {
        if (message) context.addIssue({ code: "custom", path: [key], message });
      }
    }),
    create: (settings) => {
      const { targets, ignore } = settings as LayerSelection;
      return { selection: { targets, ignore }, methods: methods(settings as z.output<z.ZodObject<Keys>>) };
    },
  };
}

/** The text of a weight spec, parsed. */
export const specSchema = z.string().transform((text, context): WeightSpec => {
  try {
    return parseWeightSpec(text);
  } catch (cause) {
    if (!(cause instanceof UsmLiteError)) throw cause;
    context.addIssue({ code: "custom", message: cause.message, params: { code: cause.code } });
    return z.NEVER;
  }
});
