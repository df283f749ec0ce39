/** Which layer of a model gets which WeightSpec. */
import { UsmLiteError } from "../errors.js";
import type { WeightSpec } from "../quant/weight_spec.js";
import type { Recipe } from "./recipe.js";

/** Spec of each compressed linear weight, by checkpoint name; what is absent stays float32. */
export type CompressionPlan = ReadonlyMap<string, WeightSpec>;

/** A model's weights that can be compressed, by checkpoint name. */
export interface CompressibleWeights {
  linearWeights(): readonly string[];
  /** Those that the recipe's `spec` covers; the others are compressed only where a pattern of `layers` names them. */
  blockWeights(): readonly string[];
}

/**
 * Applies the patterns of a recipe to the weights of a model.
 * @param source name of the recipe, for error messages
 * @throws UsmLiteError BAD_RECIPE when a pattern matches no layer
 */
export function planCompression(recipe: Recipe, weights: CompressibleWeights, source: string): CompressionPlan {
  const linearWeights = weights.linearWeights();
  const covered = new Set(weights.blockWeights());
  const matchers = new Map<string, RegExp>();
  for (const pattern of [...recipe.exclude, ...recipe.layers.map((layer) => layer.pattern)]) {
    const expression = globExpression(pattern);
    if (!linearWeights.some((name) => expression.test(layerName(name)))) {
      throw new UsmLiteError(
        "BAD_RECIPE",
        `${source}: pattern "${pattern}" matches no layer; layers are named like "${layerName(linearWeights[0] ?? "")}"`,
      );
    }
    matchers.set(pattern, expression);
  }
  const matches = (pattern: string, name: string): boolean => matchers.get(pattern)?.test(layerName(name)) ?? false;
  const plan = new Map<string, WeightSpec>();
  for (const name of linearWeights) {
    if (recipe.exclude.some((pattern) => matches(pattern, name))) continue;
    const override = recipe.layers.find((layer) => matches(layer.pattern, name));
    const spec = override?.spec ?? (covered.has(name) ? recipe.spec : undefined);
    if (spec && spec.text !== "float32") plan.set(name, spec);
  }
  return plan;
}

/** "encoder.layers.0.self_attn.q_proj.weight" is the layer "encoder.layers.0.self_attn.q_proj". */
export const layerName = (weightName: string): string => weightName.replace(/\.weight$/, "");

function globExpression(pattern: string): RegExp {
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replaceAll("*", ".*");
  return new RegExp(`^${escaped}$`);
}
