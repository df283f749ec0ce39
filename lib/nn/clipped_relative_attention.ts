/**
 * Multi-head self-attention that knows the distance between two frames, up to a limit, by a vector that all heads share (Shaw et al. 2018,
 * Self-Attention with Relative Position Representations, keys only): `softmax((q_i k_j + q_i e(clip(j - i))) / sqrt(d)) v_j`.
 */
import { DeviceTensor } from "../device/device_tensor.js";
import { onDevice, removeFromGpu } from "../device/placement.js";
import { relativeAttention } from "../ops/relative_attention.js";
import { reshape } from "../ops/reshape.js";
import { gatherRows } from "../ops/row_copies.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { AttentionModule } from "./conformer_block.js";
import type { ForwardContext } from "./forward_context.js";
import { JoinedLinears } from "./joined_linears.js";
import { Linear } from "./linear.js";
import type { WeightScope } from "./weight_source.js";

/** What relative attention is told of distances. */
interface Distances {
  /** (2 furthest + 1, hidden): row n is for the distance `furthest - n` between a frame and the frame that it sees. */
  readonly keys: Tensor;
  readonly furthest: number;
  /** (hidden) zeros: queries meet keys and distances as they are. */
  readonly bias: Tensor;
}

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
  /** Of inference, the longest so far: what a recorded pass reads has to be there when it is recorded. */
  private onGpu: Distances | undefined;

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
    const [query, key, value] = this.inputs.forward(normalized, context);
    const furthest = Math.max(1, ...offsets.lengths) - 1;
    const keeps = normalized instanceof DeviceTensor && !(this.distances instanceof DeviceTensor);
    const { keys, bias } = keeps ? this.placed(furthest) : this.expanded(furthest);
    const attended = relativeAttention(query, key, value, { keys, origin: furthest }, offsets, {
      heads: this.sizes.heads,
      contentBias: bias,
      positionBias: bias,
      inIntegers: this.inputs.multipliedIntegers(context),
    });
    return this.output.forward(attended, context, { residual });
  }

  /** Gives back the memory of what was made on the GPU: to be called when weights changed or go. */
  forgetDistances(): void {
    if (!this.onGpu) return;
    this.onGpu.keys.dispose();
    removeFromGpu(this.onGpu.bias);
    this.onGpu.bias.dispose();
    this.onGpu = undefined;
  }

  /** Of {@link ClippedRelativeAttention.expanded} on the GPU, sharing memory with this object. */
  private placed(furthest: number): Distances {
    if (!this.onGpu || this.onGpu.furthest < furthest) {
      this.forgetDistances();
      const made = tidy(() => {
        const { keys, bias } = this.expanded(furthest);
        return { keys: keep(onDevice(keys, "cuda")), furthest, bias: keep(bias) };
      });
      this.onGpu = made;
    }
    const { keys, furthest: most, bias } = this.onGpu;
    return { keys: keys.rows(most - furthest, most + furthest + 1), furthest, bias };
  }

  /** The vectors of distances up to `furthest`, once for each head. */
  private expanded(furthest: number): Distances {
    const { hidden, heads, reach } = this.sizes;
    const [left, right] = reach;
    const vectors = left + 1 + right;
    const repeated = gatherRows(this.distances, Int32Array.from({ length: vectors * heads }, (_, row) => Math.floor(row / heads)));
    const clipped = Int32Array.from({ length: 2 * furthest + 1 }, (_, row) => left + Math.min(Math.max(row - furthest, -left), right));
    const keys = gatherRows(reshape(repeated, [vectors, hidden]), clipped);
    const bias = this.distances instanceof DeviceTensor ? DeviceTensor.zeros([hidden], "float32") : Tensor.zeros([hidden]);
    return { keys, furthest, bias };
  }

  get readers(): Linear[] {
    return [this.query, this.key, this.value];
  }

  get linears(): Linear[] {
    return [this.query, this.key, this.value, this.output];
  }
}
