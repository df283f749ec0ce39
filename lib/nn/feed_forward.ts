/** The feed-forward module of a Conformer block (Gulati et al. 2020, section 2.3). */
import type { Tensor } from "../tensor/tensor.js";
import { dropoutOptions, type ForwardContext } from "./forward_context.js";
import { Linear } from "./linear.js";
import type { WeightScope } from "./weight_source.js";

export class FeedForward {
  private readonly linear1: Linear;
  private readonly linear2: Linear;

  constructor(
    scope: WeightScope,
    sizes: { hidden: number; intermediate: number; bias: boolean },
    private readonly activationDropout: number,
  ) {
    this.linear1 = new Linear(scope, "linear1", [sizes.intermediate, sizes.hidden], sizes);
    this.linear2 = new Linear(scope, "linear2", [sizes.hidden, sizes.intermediate], sizes);
  }

  /**
   * `residualWeight * residual + outputWeight * W2 silu(W1 normalized)`
   * @param normalized (frames, hidden), the layer-normalised input
   * @param residual (frames, hidden), the input itself
   */
  forward(
    normalized: Tensor,
    residual: Tensor,
    [residualScale, scale]: readonly [number, number],
    context: ForwardContext,
  ): Tensor {
    const inner = this.linear1.forward(normalized, context, {
      activation: "silu",
      ...dropoutOptions(context, this.activationDropout),
    });
    return this.linear2.forward(inner, context, { residual, residualScale, scale });
  }

  get linears(): Linear[] {
    return [this.linear1, this.linear2];
  }
}
