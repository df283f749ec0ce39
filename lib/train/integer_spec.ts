/** What holds the whole numbers of a weight while its mask may still change. */
import { withSparsity, type WeightSpec } from "../quant/weight_spec.js";
import { keptOf } from "../sparse/mask.js";
import type { Tensor } from "../tensor/tensor.js";

/** Whether a weight that is kept can be zero. */
export const hasZero = ({ format }: WeightSpec): boolean => !/^(uint|midrise|int1$)/.test(format);

/**
 * The spec that a weight of `spec`, on the CPU, is multiplied as under a mask. Where zero is a level it is dense: level 0 is what any mask
 * prunes. Formats without zero store what the mask keeps, which is more than N of M while pruning is gradual. Undefined for a mask that keeps
 * more of some M inputs than of others, as one of another M does that an earlier stage left: then the layer multiplies floats.
 */
export function integerSpec(spec: WeightSpec, mask: Tensor | undefined): WeightSpec | undefined {
  const dense = withSparsity(spec, undefined);
  const of = spec.sparsity?.of;
  if (!mask || of === undefined || hasZero(dense)) return dense;
  const kept = keptOf(mask, of);
  return kept ? withSparsity(dense, kept < of ? { kept, of } : undefined) : undefined;
}
