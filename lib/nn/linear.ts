/** A linear layer over float, fake-quantized or packed weights. */
import { integerLinear } from "../ops/integer_linear.js";
import { linear, type LinearOptions } from "../ops/linear.js";
import { packedLinear } from "../ops/packed_linear.js";
import { activeTape } from "../ops/tape.js";
import { Tensor } from "../tensor/tensor.js";
import { adaptedLinear } from "./adapted_linear.js";
import { activeAdapters, adapts } from "./adapter_scope.js";
import type { ForwardContext } from "./forward_context.js";
import type { Initialization, MatrixWeight, WeightScope } from "./weight_source.js";

/** `y = x·Wᵀ + b`. The weight has the shape of its checkpoint: (out, in), or (out, in, 1) for a pointwise convolution. */
export class Linear {
  /** Name of the weight in checkpoints, recipes and `inspect`: "encoder.layers.0.self_attn.q_proj.weight". */
  readonly name: string;
  readonly weight: MatrixWeight;
  readonly bias: Tensor | undefined;

  constructor(
    scope: WeightScope,
    name: string,
    readonly shape: readonly number[],
    options: { bias: boolean; initialization?: Initialization },
  ) {
    this.name = scope.nameOf(`${name}.weight`);
    this.weight = scope.matrix(`${name}.weight`, shape, options.initialization ?? "glorot");
    this.bias = options.bias ? scope.tensor(`${name}.bias`, [shape[0] as number], "zeros") : undefined;
  }

  /** @param x (frames, in); returns (frames, out) */
  forward(x: Tensor, context: ForwardContext, options: Omit<LinearOptions, "bias"> = {}): Tensor {
    context.observeInput?.(this.name, x);
    const adapters = activeAdapters();
    if (adapters && (adapts(adapters, this.name) || (activeTape() && x.requiresGrad))) return adaptedLinear(this, x, options, adapters);
    const withBias = this.bias ? { ...options, bias: this.bias } : options;
    if (!(this.weight instanceof Tensor)) return packedLinear(x, this.weight, withBias);
    const weight = context.transformWeight?.(this.name, this.weight) ?? this.weight;
    const packed = context.packedWeight?.(this.name, weight);
    return packed ? integerLinear(x, { weight, packed }, withBias) : linear(x, weight, withBias);
  }
}
