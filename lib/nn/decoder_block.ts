/** One block of a Transformer decoder (Vaswani et al. 2017): attention to tokens, attention to what an encoder says, feed-forward. */
import { cachedAttention, type AttentionCache } from "../ops/cached_attention.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { activatedLinear, type ActivationName } from "./activated_linear.js";
import type { ForwardContext } from "./forward_context.js";
import { JoinedLinears } from "./joined_linears.js";
import { Linear } from "./linear.js";
import { readersOf, type NormReaders } from "./norm_readers.js";
import { Norm } from "./transformer_block.js";
import type { WeightScope } from "./weight_source.js";

export interface SequenceDecoderSizes {
  readonly hidden: number;
  readonly heads: number;
  readonly intermediate: number;
  readonly layers: number;
  readonly activation: ActivationName;
  readonly layerNormEpsilon: number;
  readonly keyBias: boolean;
  /** Names of the weights in the checkpoint. */
  readonly names: SequenceDecoderNames;
  /** Whether query, value and output layers have a bias; default true. */
  readonly bias?: boolean;
}

export interface SequenceDecoderNames {
  /** Of both attentions. */
  readonly output: string;
  readonly selfNorm: string;
  readonly crossNorm: string;
  readonly feedForwardNorm: string;
  readonly inner: string;
  readonly outer: string;
  /** After the last layer. */
  readonly norm: string;
}

class DecoderAttention {
  readonly query: Linear;
  readonly key: Linear;
  readonly value: Linear;
  readonly output: Linear;
  /** Whether a query sees no key that comes after it. */
  protected readonly causal: boolean = false;
  readonly norm: Norm;

  constructor(
    scope: WeightScope,
    name: string,
    norm: string,
    private readonly sizes: SequenceDecoderSizes,
  ) {
    const square = [sizes.hidden, sizes.hidden];
    const inner = scope.scope(name);
    const bias = { bias: sizes.bias ?? true };
    this.query = new Linear(inner, "q_proj", square, bias);
    this.key = new Linear(inner, "k_proj", square, { bias: sizes.keyBias });
    this.value = new Linear(inner, "v_proj", square, bias);
    this.output = new Linear(inner, sizes.names.output, square, bias);
    this.norm = new Norm(scope, norm, sizes.hidden, sizes.layerNormEpsilon);
  }

  normalize(x: Tensor): Tensor {
    return this.norm.forward(x);
  }

  /** @param queries (frames, hidden) */
  attend(queries: Tensor, residual: Tensor, offsets: SequenceOffsets, cache: AttentionCache, context: ForwardContext = {}): Tensor {
    const attended = cachedAttention(queries, offsets, cache, { heads: this.sizes.heads, causal: this.causal });
    return this.output.forward(attended, context, { residual });
  }
}

/** Attention to earlier tokens, of which queries, keys and values are made alike. */
class DecoderSelfAttention extends DecoderAttention {
  protected override readonly causal = true;
  readonly inputs = new JoinedLinears([this.query, this.key, this.value]);
}

export class DecoderBlock {
  readonly selfAttention: DecoderSelfAttention;
  readonly crossAttention: DecoderAttention;
  private readonly inner: Linear;
  private readonly outer: Linear;
  private readonly norm: Norm;

  constructor(
    scope: WeightScope,
    private readonly sizes: SequenceDecoderSizes,
  ) {
    const { names } = sizes;
    this.selfAttention = new DecoderSelfAttention(scope, "self_attn", names.selfNorm, sizes);
    this.crossAttention = new DecoderAttention(scope, "encoder_attn", names.crossNorm, sizes);
    this.inner = new Linear(scope, names.inner, [sizes.intermediate, sizes.hidden], { bias: true });
    this.outer = new Linear(scope, names.outer, [sizes.hidden, sizes.intermediate], { bias: true });
    this.norm = new Norm(scope, names.feedForwardNorm, sizes.hidden, sizes.layerNormEpsilon);
  }

  feedForward(x: Tensor, context: ForwardContext = {}): Tensor {
    const inner = activatedLinear(this.inner, this.norm.forward(x), this.sizes.activation, context);
    return this.outer.forward(inner, context, { residual: x });
  }

  /** All tokens of all sequences at once. */
  forward(
    x: Tensor,
    offsets: SequenceOffsets,
    encoded: { readonly hidden: Tensor; readonly offsets: SequenceOffsets },
    context: ForwardContext,
  ): Tensor {
    const { selfAttention: own, crossAttention: cross } = this;
    const [queries, keys, values] = own.inputs.forward(own.normalize(x), context);
    const attended = own.attend(queries, x, offsets, { keys, values, offsets }, context);
    const memory = {
      keys: cross.key.forward(encoded.hidden, context),
      values: cross.value.forward(encoded.hidden, context),
      offsets: encoded.offsets,
    };
    const crossQueries = cross.query.forward(cross.normalize(attended), context);
    return this.feedForward(cross.attend(crossQueries, attended, offsets, memory, context), context);
  }

  get linears(): Linear[] {
    const { selfAttention: own, crossAttention: cross } = this;
    return [own, cross].flatMap(({ query, key, value, output }) => [query, key, value, output]).concat(this.inner, this.outer);
  }

  /** Keys and values of the attention to the encoder are made of its frames, which no norm of this block makes. */
  get normReaders(): readonly NormReaders[] {
    const { selfAttention: own, crossAttention: cross } = this;
    return [
      ...readersOf(own.norm.names, [own.query, own.key, own.value]),
      ...readersOf(cross.norm.names, [cross.query]),
      ...readersOf(this.norm.names, [this.inner]),
    ];
  }
}
