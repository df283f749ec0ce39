/** Quantization-aware training: `w_eff = fakeQuantize(mask * w)` (USM-Lite, arXiv 2312.08553). */
import { fakeQuantize } from "../quant/fake_quantize.js";
import { withSparsity, type WeightSpec } from "../quant/weight_spec.js";
import type { Tensor } from "../tensor/tensor.js";
import type { TrainableModel } from "./trainable_model.js";
import type { TrainingModifier } from "./training_modifier.js";
import { linearWeight, type MasksInForce } from "./weight_pruning.js";

export interface WeightQuantizationOptions {
  /** Masks that the weights were multiplied by, such as {@link WeightPruning.masks}. */
  readonly masks?: MasksInForce;
  /** Treat the quantization scale as a constant in the backward pass; default false. */
  readonly stopScaleGradient?: boolean;
}

/** Quantizes weights in every forward pass; gradients pass straight through the rounding. */
export class WeightQuantization implements TrainingModifier {
  private readonly specs = new Map<string, { readonly sparse: WeightSpec; readonly dense: WeightSpec }>();

  /**
   * @param specs spec of each quantized weight by parameter name; its sparsity counts where a mask is in force
   * @throws UsmLiteError INVALID_ARGUMENT for a name that is no linear weight of the model
   */
  constructor(
    model: TrainableModel,
    specs: ReadonlyMap<string, WeightSpec>,
    private readonly options: WeightQuantizationOptions = {},
  ) {
    for (const [name, spec] of specs) {
      linearWeight(model, name);
      this.specs.set(name, { sparse: spec, dense: withSparsity(spec, undefined) });
    }
  }

  transformWeight(name: string, weight: Tensor): Tensor {
    const spec = this.specs.get(name);
    if (!spec) return weight;
    const mask = this.options.masks?.get(name);
    return fakeQuantize(weight, (mask ? spec.sparse : spec.dense).text, {
      stopScaleGradient: this.options.stopScaleGradient ?? false,
      ...(mask ? { mask } : {}),
    });
  }
}
