/** Multi-head self-attention with relative positions (Dai et al. 2019). */
import { UsmLiteError } from "../errors.js";
import { relativeAttention } from "../ops/relative_attention.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { AttentionModule } from "./conformer_block.js";
import type { ForwardContext } from "./forward_context.js";
import { JoinedLinears } from "./joined_linears.js";
import { Linear } from "./linear.js";
import type { WeightScope } from "./weight_source.js";

export interface RelativeSelfAttentionSizes {
  readonly hidden: number;
  readonly heads: number;
  readonly keyValueHeads: number;
  readonly headDimension: number;
  readonly bias: boolean;
  /** Frames before and after a frame that it sees; absent: all. */
  readonly context?: readonly [left: number, right: number] | undefined;
  /** Names of the weights in the checkpoint. */
  readonly names: RelativeSelfAttentionNames;
}

export interface RelativeSelfAttentionNames {
  readonly query: string;
  readonly key: string;
  readonly value: string;
  readonly output: string;
  readonly position: string;
  readonly contentBias: string;
  readonly positionBias: string;
}

export class RelativeSelfAttention implements AttentionModule {
  private readonly query: Linear;
  private readonly key: Linear;
  private readonly value: Linear;
  private readonly output: Linear;
  readonly position: Linear;
  private readonly inputs: JoinedLinears<readonly [query: Linear, key: Linear, value: Linear]>;
  private readonly contentBias: Tensor;
  private readonly positionBias: Tensor;

  constructor(
    scope: WeightScope,
    private readonly sizes: RelativeSelfAttentionSizes,
  ) {
    const { hidden, heads, headDimension, names } = sizes;
    const inner = heads * headDimension;
    const keyValueInner = sizes.keyValueHeads * headDimension;
    this.query = new Linear(scope, names.query, [inner, hidden], sizes);
    this.key = new Linear(scope, names.key, [keyValueInner, hidden], sizes);
    this.value = new Linear(scope, names.value, [keyValueInner, hidden], sizes);
    this.output = new Linear(scope, names.output, [hidden, inner], sizes);
    this.position = new Linear(scope, names.position, [inner, hidden], { bias: false });
    this.inputs = new JoinedLinears([this.query, this.key, this.value]);
    this.contentBias = scope.tensor(names.contentBias, [heads, headDimension], "zeros");
    this.positionBias = scope.tensor(names.positionBias, [heads, headDimension], "zeros");
  }

  /**
   * `residual + Wo attention(Wq x, Wk x, Wv x, Wr p)` within each sequence.
   * @param normalized (frames, hidden)
   * @param residual (frames, hidden)
   * @param context its `positions` reach from frame to frame of the longest sequence
   */
  forward(normalized: Tensor, residual: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    if (!context.positions) throw new UsmLiteError("INTERNAL", "relative self-attention needs positions in its forward context");
    const { embeddings, origin, keys } = context.positions;
    const [query, key, value] = this.inputs.forward(normalized, context);
    const attended = relativeAttention(
      query,
      key,
      value,
      { keys: keys?.get(this.position) ?? this.position.forward(embeddings, context), origin },
      offsets,
      {
        heads: this.sizes.heads,
        keyValueHeads: this.sizes.keyValueHeads,
        contentBias: this.contentBias,
        positionBias: this.positionBias,
        context: this.sizes.context,
        inIntegers: this.inputs.multipliedIntegers(context),
      },
    );
    return this.output.forward(attended, context, { residual });
  }

  get readers(): Linear[] {
    return [this.query, this.key, this.value];
  }

  get linears(): Linear[] {
    return [this.query, this.key, this.value, this.output, this.position];
  }
}
