/**
 * The self-attention of wav2vec2-conformer without relative positions: none at all, or rotary ones (Su et al. 2021) that turn what goes
 * into the query and key layers instead of what comes out of them.
 */
import type { AttentionModule } from "../../nn/conformer_block.js";
import type { ForwardContext } from "../../nn/forward_context.js";
import { JoinedLinears } from "../../nn/joined_linears.js";
import { Linear } from "../../nn/linear.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { attention } from "../../ops/attention.js";
import { rotateRows } from "../../ops/rotary_embedding.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";

export interface RotatedSelfAttentionSizes {
  readonly hidden: number;
  readonly heads: number;
  /** Base of the rotary frequencies; undefined: no positions. */
  readonly theta: number | undefined;
}

export class RotatedSelfAttention implements AttentionModule {
  private readonly query: Linear;
  private readonly key: Linear;
  private readonly value: Linear;
  private readonly output: Linear;
  private readonly inputs: JoinedLinears<readonly Linear[]>;

  constructor(
    scope: WeightScope,
    private readonly sizes: RotatedSelfAttentionSizes,
  ) {
    const square = [sizes.hidden, sizes.hidden];
    this.query = new Linear(scope, "linear_q", square, { bias: true });
    this.key = new Linear(scope, "linear_k", square, { bias: true });
    this.value = new Linear(scope, "linear_v", square, { bias: true });
    this.output = new Linear(scope, "linear_out", square, { bias: true });
    this.inputs = new JoinedLinears(sizes.theta === undefined ? [this.query, this.key, this.value] : [this.query, this.key]);
  }

  forward(normalized: Tensor, residual: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    const { heads, theta } = this.sizes;
    const placed = theta === undefined ? normalized : rotateRows(normalized, offsets, heads, theta);
    const [query, key, value = this.value.forward(normalized, context)] = this.inputs.forward(placed, context) as [Tensor, Tensor, Tensor?];
    const attended = attention(query, key, value, offsets, { heads, inIntegers: this.inputs.multipliedIntegers(context) });
    return this.output.forward(attended, context, { residual });
  }

  /** None with rotary positions: query and key layers multiply what is turned, each value with another of its frame. */
  get readers(): Linear[] {
    return this.sizes.theta === undefined ? [this.query, this.key, this.value] : [];
  }

  get linears(): Linear[] {
    return [this.query, this.key, this.value, this.output];
  }
}
