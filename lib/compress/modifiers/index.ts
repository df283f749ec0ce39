/**
 * The modifiers that recipes may name. In training they are applied in the order of this table, whatever the order in the
 * recipe: weights are pruned before they are quantized (Harma et al., ICLR 2025, arXiv 2405.20935).
 */
import type { ModifierType } from "../modifier.js";
import { distillation } from "./distillation.js";
import { lowRank } from "./low_rank.js";
import { manySizes } from "./many_sizes.js";
import { mixedPrecision } from "./mixed_precision.js";
import { quantization } from "./quantization.js";
import { roundToNearest } from "./round_to_nearest.js";
import { gptq, sparsegpt } from "./second_order.js";
import { smooth } from "./smooth.js";
import { sparsity } from "./sparsity.js";
import { wanda } from "./wanda.js";

export const modifierTypes: readonly ModifierType[] = [
  roundToNearest,
  smooth,
  mixedPrecision,
  wanda,
  gptq,
  sparsegpt,
  lowRank,
  manySizes,
  distillation,
  sparsity,
  quantization,
];
