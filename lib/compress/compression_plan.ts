/** Which layer of a model gets which WeightSpec. */
import { UsmLiteError } from "../errors.js";
import type { WeightSpec } from "../quant/weight_spec.js";
import { floatSpec } from "./compression_state.js";
import { selectWeights, type CompressibleWeights } from "./layer_selection.js";
import type { Modifier } from "./modifier.js";
import { assignedWeights, type Recipe, type Stage } from "./recipe.js";

/** Spec of each compressed linear weight, by checkpoint name; what is absent stays float32. */
export type CompressionPlan = ReadonlyMap<string, WeightSpec>;

/** A stage with the weights of its modifiers. */
export interface PlannedStage {
  readonly stage: Stage;
  /** Weights of each modifier, in the order of the model. */
  readonly weights: ReadonlyMap<Modifier, readonly string[]>;
  /** Specs of all weights after the stage. */
  readonly plan: CompressionPlan;
}

/** The weights that the stage is about: those that have a spec after it, and those that may have lost theirs in it. */
export const layersOf = ({ weights, plan }: PlannedStage): ReadonlySet<string> =>
  new Set([...plan.keys(), ...[...weights.values()].flat()]);

/**
 * Applies the patterns of a recipe to the weights of a model.
 * @param chosen the specs that modifiers have chosen in view of speech, as far as that is done
 * @throws UsmLiteError BAD_RECIPE when a pattern matches no layer, or a modifier needs a spec that nothing before gave
 */
export function planStages(recipe: Recipe, weights: CompressibleWeights, chosen: CompressionPlan = new Map()): readonly PlannedStage[] {
  const specs = new Map<string, WeightSpec>();
  return recipe.stages.map((stage) => {
    const assigned = assignedWeights(stage, ({ selection, source }) => selectWeights(selection, weights, source));
    for (const [modifier, names] of assigned) {
      for (const name of names) {
        const before = specs.get(name) ?? floatSpec;
        specs.set(name, (modifier.chooseSpecs && chosen.get(name)) ?? specAfter(modifier, before, name));
      }
    }
    const order = weights.linearWeights().filter((name) => (specs.get(name) ?? floatSpec).text !== "float32");
    return { stage, weights: assigned, plan: new Map(order.map((name) => [name, specs.get(name) as WeightSpec])) };
  });
}

/**
 * Spec of each weight when a recipe is done.
 * @throws UsmLiteError as {@link planStages}
 *
 * @example
 * const plan = resolveSpecs(readRecipe("recipes/usm-lite.yaml"), loadModel("float").network);
 * plan.get("encoder.layers.0.self_attn.q_proj.weight")?.text; // "int4+2:4"
 */
export function resolveSpecs(recipe: Recipe, weights: CompressibleWeights): CompressionPlan {
  return planStages(recipe, weights).at(-1)?.plan ?? new Map();
}

function specAfter({ specOf, source, type }: Modifier, before: WeightSpec, name: string): WeightSpec {
  try {
    return specOf?.(before) ?? before;
  } catch (cause) {
    if (!(cause instanceof UsmLiteError)) throw cause;
    throw new UsmLiteError("BAD_RECIPE", `${source}: ${type} of "${name}": ${cause.message}`, { cause });
  }
}
