/** Multi-head self-attention with rotary positions (Su et al. 2021). */
import { attention } from "../ops/attention.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { dropoutOptions, type ForwardContext } from "./forward_context.js";
import { JoinedLinears } from "./joined_linears.js";
import { Linear } from "./linear.js";
import type { WeightScope } from "./weight_source.js";

interface SelfAttentionSizes {
  readonly hidden: number;
  readonly heads: number;
  readonly headDimension: number;
  readonly bias: boolean;
  /** Base of the rotary frequencies, 10000 as a rule. */
  readonly ropeTheta: number;
}

export class SelfAttention {
  private readonly query: Linear;
  private readonly key: Linear;
  private readonly value: Linear;
  private readonly output: Linear;
  private readonly inputs: JoinedLinears<readonly [query: Linear, key: Linear, value: Linear]>;

  constructor(
    scope: WeightScope,
    private readonly sizes: SelfAttentionSizes,
    private readonly attentionDropout: number,
  ) {
    const inner = sizes.heads * sizes.headDimension;
    this.query = new Linear(scope, "q_proj", [inner, sizes.hidden], sizes);
    this.key = new Linear(scope, "k_proj", [inner, sizes.hidden], sizes);
    this.value = new Linear(scope, "v_proj", [inner, sizes.hidden], sizes);
    this.output = new Linear(scope, "o_proj", [sizes.hidden, inner], sizes);
    this.inputs = new JoinedLinears([this.query, this.key, this.value]);
  }

  /**
   * `residual + Wo attention(Wq x, Wk x, Wv x)` within each sequence.
   * @param normalized (frames, hidden)
   * @param residual (frames, hidden)
   */
  forward(normalized: Tensor, residual: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    const [query, key, value] = this.inputs.forward(normalized, context);
    const attended = attention(query, key, value, offsets, {
      heads: this.sizes.heads,
      ropeTheta: this.sizes.ropeTheta,
      inIntegers: this.inputs.multipliedIntegers(context),
      ...dropoutOptions(context, this.attentionDropout),
    });
    return this.output.forward(attended, context, { residual });
  }

  get readers(): Linear[] {
    return [this.query, this.key, this.value];
  }

  get linears(): Linear[] {
    return [this.query, this.key, this.value, this.output];
  }
}
