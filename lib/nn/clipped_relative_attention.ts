/**
 * Multi-head self-attention that knows the distance between two frames, up to a limit, by a vector that all heads share (Shaw et al. 2018,
 * Self-Attention with Relative Position Representations, keys only): `softmax((q_i k_j + q_i e(clip(j - i))) / sqrt(d)) v_j`.
 */
import { relativeAttention } from "../ops/relative_attention.js";
import { reshape } from "../ops/reshape.js";
import { gatherRows } from "../ops/row_copies.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import type { AttentionModule } from "./conformer_block.js";
import type { ForwardContext } from "./forward_context.js";
import { JoinedLinears } from "./joined_linears.js";
import { Linear } from "./linear.js";
import type { WeightScope } from "./weight_source.js";

interface ClippedRelativeAttentionSizes {
  readonly hidden: number;
  readonly heads: number;
  /** Frames before and after a frame whose distances have vectors of their own. */
  readonly reach: readonly [left: number, right: number];
}

export class ClippedRelativeAttention implements AttentionModule {
  private readonly query: Linear;
  private readonly key: Linear;
  private readonly value: Linear;
  private readonly output: Linear;
  private readonly inputs: JoinedLinears<readonly [query: Linear, key: Linear, value: Linear]>;
  /** (left + 1 + right, headDimension): row n is for frames `n - left` behind the one that sees them. */
  private readonly distances: Tensor;

  constructor(
    scope: WeightScope,
    private readonly sizes: ClippedRelativeAttentionSizes,
  ) {
    const { hidden, heads, reach } = sizes;
    const square = [hidden, hidden];
    this.query = new Linear(scope, "linear_q", square, { bias: true });
    this.key = new Linear(scope, "linear_k", square, { bias: true });
    this.value = new Linear(scope, "linear_v", square, { bias: true });
    this.output = new Linear(scope, "linear_out", square, { bias: true });
    this.inputs = new JoinedLinears([this.query, this.key, this.value]);
    this.distances = scope.tensor("distance_embedding.weight", [reach[0] + 1 + reach[1], hidden / heads], "fanIn");
  }

  /**
   * `residual + Wo attention(Wq x, Wk x, Wv x)` within each sequence.
   * @param normalized (frames, hidden)
   * @param residual (frames, hidden)
   */
  forward(normalized: Tensor, residual: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    const { hidden, heads } = this.sizes;
    const [query, key, value] = this.inputs.forward(normalized, context);
    const none = Tensor.zeros([hidden]);
    const attended = relativeAttention(query, key, value, this.positions(Math.max(1, ...offsets.lengths) - 1), offsets, {
      heads,
      contentBias: none,
      positionBias: none,
      inIntegers: this.inputs.multipliedIntegers(context),
    });
    return this.output.forward(attended, context, { residual });
  }

  /** The vectors of distances `furthest` .. `-furthest` between a frame and the frame that it sees, once for each head. */
  private positions(furthest: number): { keys: Tensor; origin: number } {
    const { hidden, heads, reach } = this.sizes;
    const [left, right] = reach;
    const rows = 2 * furthest + 1;
    const indices = new Int32Array(rows * heads);
    for (let row = 0; row < rows; row++) {
      const behind = Math.min(Math.max(row - furthest, -left), right);
      indices.fill(behind + left, row * heads, (row + 1) * heads);
    }
    return { keys: reshape(gatherRows(this.distances, indices), [rows, hidden]), origin: furthest };
  }

  get readers(): Linear[] {
    return [this.query, this.key, this.value];
  }

  get linears(): Linear[] {
    return [this.query, this.key, this.value, this.output];
  }
}
