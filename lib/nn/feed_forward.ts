/** The feed-forward module of a Conformer block (Gulati et al. 2020, section 2.3). */
import type { Tensor } from "../tensor/tensor.js";
import { activatedLinear, type ActivationName } from "./activated_linear.js";
import { dropoutOptions, type ForwardContext } from "./forward_context.js";
import { Linear } from "./linear.js";
import type { WeightScope } from "./weight_source.js";

interface FeedForwardSizes {
  readonly hidden: number;
  readonly intermediate: number;
  readonly bias: boolean;
  readonly activation: ActivationName;
  readonly names: { readonly inner: string; readonly outer: string };
}

export class FeedForward {
  private readonly linear1: Linear;
  private readonly linear2: Linear;

  constructor(
    scope: WeightScope,
    private readonly sizes: FeedForwardSizes,
    private readonly activationDropout: number,
  ) {
    this.linear1 = new Linear(scope, sizes.names.inner, [sizes.intermediate, sizes.hidden], sizes);
    this.linear2 = new Linear(scope, sizes.names.outer, [sizes.hidden, sizes.intermediate], sizes);
  }

  /**
   * `residualWeight * residual + outputWeight * W2 activation(W1 normalized)`
   * @param normalized (frames, hidden), the layer-normalized input
   * @param residual (frames, hidden), the input itself
   */
  forward(normalized: Tensor, residual: Tensor, [residualScale, scale]: readonly [number, number], context: ForwardContext): Tensor {
    const { activation } = this.sizes;
    const inner =
      activation === "gelu"
        ? activatedLinear(this.linear1, normalized, activation, context)
        : this.linear1.forward(normalized, context, { activation, ...dropoutOptions(context, this.activationDropout) });
    return this.linear2.forward(inner, context, { residual, residualScale, scale });
  }

  /** The layer that multiplies `normalized`. */
  get reader(): Linear {
    return this.linear1;
  }

  get linears(): Linear[] {
    return [this.linear1, this.linear2];
  }
}
