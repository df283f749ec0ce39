/** Recipes that tests write again and again. */
import { compressModel, parseRecipe, type Recipe } from "../lib/index.js";

/** Everything in the blocks as `spec`, without data; `layers` has other specs by pattern, of which the last that matches counts. */
export function roundToNearest(spec: string, layers: Readonly<Record<string, string>> = {}): Recipe {
  const others = Object.entries(layers).map(([pattern, own]) => ({ type: "round-to-nearest", targets: [pattern], spec: own }));
  return parseRecipe(JSON.stringify({ stages: [{ modifiers: [{ type: "round-to-nearest", spec }, ...others] }] }), "r");
}

/** A model with its blocks as `spec`, in a folder beside it. */
export async function compressRounded(model: string, spec: string): Promise<string> {
  const out = `${model}-${spec.replaceAll(/[^\w]/g, "-")}`;
  await compressModel({ model, recipe: roundToNearest(spec), manifest: undefined, out });
  return out;
}
