/** Which layers a modifier is about. */
import { z } from "zod";
import { UsmLiteError } from "../errors.js";
import { ForeignExpression } from "../text/foreign_expression.js";

/** A model's weights that can be compressed, by checkpoint name. */
export interface CompressibleWeights {
  linearWeights(): readonly string[];
  /** Those in the blocks, nearly all of the model: what a modifier without `targets` covers. */
  blockWeights(): readonly string[];
}

/** Patterns over layer names. `re:` begins a regular expression, which must match the whole name; elsewhere `*` stands for any characters. */
export interface LayerSelection {
  /** Absent: the layers of the blocks. */
  readonly targets: readonly string[] | undefined;
  /** Layers left out of `targets`. */
  readonly ignore: readonly string[];
}

/** A pattern, checked. */
export const patternSchema = z
  .string()
  .min(1)
  .superRefine((pattern, context) => {
    try {
      patternExpression(pattern);
    } catch (cause) {
      context.addIssue({ code: "custom", message: `"${pattern}" is no regular expression: ${(cause as Error).message}` });
    }
  });

/** The keys of a selection, which every modifier has. */
export const selectionKeys = { targets: z.array(patternSchema).min(1).optional(), ignore: z.array(patternSchema).default([]) };

/**
 * The weights that `selection` names, in the order of the model.
 * @param source what error messages call the recipe
 * @throws UsmLiteError BAD_RECIPE when a pattern matches no layer
 */
export function selectWeights({ targets, ignore }: LayerSelection, weights: CompressibleWeights, source: string): readonly string[] {
  const all = weights.linearWeights();
  const matches = matcher([...(targets ?? []), ...ignore], all, source);
  const covered = new Set(targets ? all.filter((name) => targets.some((pattern) => matches(pattern, name))) : weights.blockWeights());
  return all.filter((name) => covered.has(name) && !ignore.some((pattern) => matches(pattern, name)));
}

/**
 * A test of weight names against `patterns`.
 * @throws UsmLiteError BAD_RECIPE when one of them matches none of `names`
 */
export function matcher(patterns: readonly string[], names: readonly string[], source: string): (pattern: string, name: string) => boolean {
  const expressions = new Map(patterns.map((pattern) => [pattern, patternExpression(pattern)]));
  for (const [pattern, expression] of expressions) {
    if (names.some((name) => expression.test(layerName(name)))) continue;
    throw new UsmLiteError(
      "BAD_RECIPE",
      `${source}: pattern "${pattern}" matches no layer; layers are named like "${layerName(names[0] ?? "")}"`,
    );
  }
  return (pattern, name) => expressions.get(pattern)?.test(layerName(name)) ?? false;
}

/** "encoder.layers.0.self_attn.q_proj.weight" is the layer "encoder.layers.0.self_attn.q_proj". */
export const layerName = (weightName: string): string => weightName.replace(/\.weight$/, "");

function patternExpression(pattern: string): Pick<ForeignExpression, "test"> {
  if (pattern.startsWith("re:")) {
    return new ForeignExpression(`^(?:${pattern.slice(3)})$`, "", (layer) => {
      throw new UsmLiteError(
        "BAD_RECIPE",
        `pattern "${pattern}" takes too long to compare with "${layer}": repetitions in repetitions, such as (a+)+, do that`,
      );
    });
  }
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*+/g, ".*");
  return new RegExp(`^${escaped}$`);
}
