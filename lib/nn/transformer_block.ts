/** One block of a Transformer encoder (Vaswani et al. 2017), normalized before or after its modules. */
import { attention } from "../ops/attention.js";
import { layerNorm } from "../ops/layer_norm.js";
import { releaseUnlessRecording } from "../ops/tape.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { activatedLinear, type ActivationName } from "./activated_linear.js";
import type { ForwardContext } from "./forward_context.js";
import { JoinedLinears } from "./joined_linears.js";
import { Linear } from "./linear.js";
import { readersOf, type NormReaders } from "./norm_readers.js";
import type { WeightScope } from "./weight_source.js";

/** What the parts are called in checkpoints. */
export interface TransformerNames {
  readonly attention: string;
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly output: string;
  readonly attentionNorm: string;
  readonly inner: string;
  readonly outer: string;
  readonly feedForwardNorm: string;
}

interface TransformerBlockSizes {
  readonly hidden: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly activation: ActivationName;
  readonly layerNormEpsilon: number;
  /** Normalizes what goes into attention and feed-forward module (true), or the sums after them. */
  readonly normalizeFirst: boolean;
  readonly keyBias: boolean;
  readonly names: TransformerNames;
}

/** Layer normalization with its weights. */
export class Norm {
  /** Of its weight and bias, in checkpoints. */
  readonly names: readonly string[];
  private readonly weight: Tensor;
  private readonly bias: Tensor;

  constructor(
    scope: WeightScope,
    name: string,
    size: number,
    private readonly epsilon: number,
  ) {
    this.names = [scope.nameOf(`${name}.weight`), scope.nameOf(`${name}.bias`)];
    this.weight = scope.tensor(`${name}.weight`, [size], "ones");
    this.bias = scope.tensor(`${name}.bias`, [size], "zeros");
  }

  forward(x: Tensor): Tensor {
    return layerNorm(x, this.weight, { bias: this.bias, epsilon: this.epsilon });
  }
}

export class TransformerBlock {
  private readonly query: Linear;
  private readonly key: Linear;
  private readonly value: Linear;
  private readonly output: Linear;
  private readonly inputs: JoinedLinears<readonly [query: Linear, key: Linear, value: Linear]>;
  private readonly attentionNorm: Norm;
  private readonly inner: Linear;
  private readonly outer: Linear;
  private readonly feedForwardNorm: Norm;

  constructor(
    scope: WeightScope,
    private readonly sizes: TransformerBlockSizes,
  ) {
    const { hidden, intermediate, layerNormEpsilon, names } = sizes;
    const inner = scope.scope(names.attention);
    const square = [hidden, hidden];
    this.query = new Linear(inner, names.query, square, { bias: true });
    this.key = new Linear(inner, names.key, square, { bias: sizes.keyBias });
    this.value = new Linear(inner, names.value, square, { bias: true });
    this.output = new Linear(inner, names.output, square, { bias: true });
    this.inputs = new JoinedLinears([this.query, this.key, this.value]);
    this.attentionNorm = new Norm(scope, names.attentionNorm, hidden, layerNormEpsilon);
    this.inner = new Linear(scope, names.inner, [intermediate, hidden], { bias: true });
    this.outer = new Linear(scope, names.outer, [hidden, intermediate], { bias: true });
    this.feedForwardNorm = new Norm(scope, names.feedForwardNorm, hidden, layerNormEpsilon);
  }

  /** @param x (frames, hidden); returns the same shape */
  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext = {}): Tensor {
    const modules = this.sizes.normalizeFirst
      ? [
          (x: Tensor) => this.attend(this.attentionNorm.forward(x), x, offsets, context),
          (x: Tensor) => this.feedForward(this.feedForwardNorm.forward(x), x, context),
        ]
      : [
          (x: Tensor) => this.attentionNorm.forward(this.attend(x, x, offsets, context)),
          (x: Tensor) => this.feedForwardNorm.forward(this.feedForward(x, x, context)),
        ];
    return releaseUnlessRecording(() => modules.reduce((hidden, module) => releaseUnlessRecording(() => module(hidden)), x));
  }

  get linears(): Linear[] {
    return [this.query, this.key, this.value, this.output, this.inner, this.outer];
  }

  /** None where modules are normalized after their sums: what comes out is also added to what the next module makes of it. */
  get normReaders(): readonly NormReaders[] {
    if (!this.sizes.normalizeFirst) return [];
    return [
      ...readersOf(this.attentionNorm.names, [this.query, this.key, this.value]),
      ...readersOf(this.feedForwardNorm.names, [this.inner]),
    ];
  }

  private attend(x: Tensor, residual: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    const [query, key, value] = this.inputs.forward(x, context);
    const attended = attention(query, key, value, offsets, {
      heads: this.sizes.heads,
      inIntegers: this.inputs.multipliedIntegers(context),
    });
    return this.output.forward(attended, context, { residual });
  }

  private feedForward(x: Tensor, residual: Tensor, context: ForwardContext): Tensor {
    return this.outer.forward(activatedLinear(this.inner, x, this.sizes.activation, context), context, { residual });
  }
}
