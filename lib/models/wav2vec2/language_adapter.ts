/**
 * What makes a block fit one language in the Massively Multilingual Speech models (Pratap et al. 2023, section 5.5): a bottleneck of
 * few values behind it, added to what it makes (Houlsby et al. 2019). `Wav2Vec2AttnAdapterLayer` in transformers.
 */
import { activatedLinear } from "../../nn/activated_linear.js";
import type { ForwardContext } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import { readersOf, type NormReaders } from "../../nn/norm_readers.js";
import { Norm } from "../../nn/transformer_block.js";
import type { WeightScope } from "../../nn/weight_source.js";
import type { Tensor } from "../../tensor/tensor.js";

// torch's default, which this family does not configure.
const epsilon = 1e-5;

export class LanguageAdapter {
  private readonly norm: Norm;
  private readonly inner: Linear;
  private readonly outer: Linear;

  /** @param size values of the bottleneck */
  constructor(scope: WeightScope, hidden: number, size: number) {
    this.norm = new Norm(scope, "norm", hidden, epsilon);
    this.inner = new Linear(scope, "linear_1", [size, hidden], { bias: true });
    this.outer = new Linear(scope, "linear_2", [hidden, size], { bias: true });
  }

  /** `x + outer(relu(inner(norm(x))))`, (frames, hidden) */
  forward(x: Tensor, context: ForwardContext): Tensor {
    return this.outer.forward(activatedLinear(this.inner, this.norm.forward(x), "relu", context), context, { residual: x });
  }

  get linears(): Linear[] {
    return [this.inner, this.outer];
  }

  get normReaders(): readonly NormReaders[] {
    return readersOf(this.norm.names, [this.inner]);
  }
}
