/** What several training modifiers make of a weight together. */
import type { IntegerWeight } from "../ops/integer_linear.js";
import type { Tensor } from "../tensor/tensor.js";
import type { TrainingContext, WeightTransform } from "./trainable_model.js";
import type { TrainingModifier, WeightPurpose } from "./training_modifier.js";

/** The first packed form that a modifier has of a weight. */
export function packingOf(modifiers: readonly TrainingModifier[]): Pick<TrainingContext, "packedWeight"> {
  const packing = modifiers.filter(({ packedWeight }) => packedWeight);
  if (packing.length === 0) return {};
  const first = (name: string, transformed: Tensor): IntegerWeight | undefined => {
    for (const modifier of packing) {
      const packed = modifier.packedWeight?.(name, transformed);
      if (packed) return packed;
    }
    return undefined;
  };
  return { packedWeight: first };
}

/** The transforms of all modifiers, one after another. */
export function transformOf(modifiers: readonly TrainingModifier[], purpose: WeightPurpose): WeightTransform | undefined {
  const transforming = modifiers.filter(({ transformWeight }) => transformWeight);
  if (transforming.length === 0) return undefined;
  return (name, weight) => transforming.reduce((made, modifier) => modifier.transformWeight?.(name, made, purpose) ?? made, weight);
}
