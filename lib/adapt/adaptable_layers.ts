/** The layers of a model that adapters may be added to. */
import { UsmLiteError } from "../errors.js";
import type { SpeechModel } from "../models/model_folder.js";
import { ForeignExpression } from "../text/foreign_expression.js";

// What is shared by all sequences of a batch cannot be different for each of them.
const positions = /\.(linear_pos|relative_k_proj)\.weight$/;

/**
 * Matrices (out, in) by weight name, in the order of the model: linear layers of the blocks, pointwise convolutions among them.
 * Of a transducer those of its encoder, of a sequence-to-sequence model those of encoder and decoder.
 */
export function adaptableLayers({
  network,
  linearShapes,
}: Pick<SpeechModel, "network" | "linearShapes">): ReadonlyMap<string, readonly [out: number, input: number]> {
  const layers = new Map<string, readonly [number, number]>();
  for (const name of network.blockWeights()) {
    const [out, input, kernel = 1] = linearShapes.get(name) ?? [];
    if (out === undefined || input === undefined || kernel !== 1 || positions.test(name)) continue;
    if (network.kind === "transducer" && !name.startsWith("encoder.")) continue;
    layers.set(name, [out, input]);
  }
  return layers;
}

/**
 * The layers whose names, without ".weight", match one of `patterns`.
 * @throws UsmLiteError INVALID_ARGUMENT when a pattern matches none
 */
export function selectLayers<Shape>(layers: ReadonlyMap<string, Shape>, patterns: readonly string[]): ReadonlyMap<string, Shape> {
  const names = [...layers.keys()].map((name) => [name, name.replace(/\.weight$/, "")] as const);
  const selected = new Set<string>();
  for (const pattern of patterns) {
    const expression = patternExpression(pattern);
    const matches = names.filter(([, layer]) => expression.test(layer));
    if (matches.length === 0) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `pattern "${pattern}" matches no layer that can be adapted; they are named like "${names[0]?.[1] ?? ""}"`,
      );
    }
    for (const [name] of matches) selected.add(name);
  }
  return new Map([...layers].filter(([name]) => selected.has(name)));
}

function patternExpression(pattern: string): Pick<ForeignExpression, "test"> {
  try {
    if (pattern.startsWith("re:")) {
      return new ForeignExpression(`^(?:${pattern.slice(3)})$`, "", (layer) => {
        throw new UsmLiteError(
          "INVALID_ARGUMENT",
          `pattern "${pattern}" takes too long to compare with "${layer}": repetitions in repetitions, such as (a+)+, do that`,
        );
      });
    }
  } catch (cause) {
    throw new UsmLiteError("INVALID_ARGUMENT", `pattern "${pattern}" is no regular expression: ${(cause as Error).message}`, { cause });
  }
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, "\\$&").replace(/\*+/g, ".*");
  return new RegExp(`^${escaped}$`);
}
