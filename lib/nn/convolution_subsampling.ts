/** The front of the LASR encoder: log-mel frames at 10 ms become hidden frames at 40 ms. */
import { activeTape } from "../ops/tape.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ForwardContext } from "./forward_context.js";
import { Linear } from "./linear.js";
import { StridedConvolution } from "./strided_convolution.js";
import type { WeightScope } from "./weight_source.js";

interface ConvolutionSubsamplingSizes {
  readonly melBins: number;
  readonly hidden: number;
  readonly channels: number;
  readonly kernel: number;
  readonly stride: number;
}

/** Linear, two unpadded strided convolutions, linear; ReLU after each but the last. */
export class ConvolutionSubsampling {
  private readonly dense0: Linear;
  private readonly convolutions: readonly StridedConvolution[];
  private readonly dense1: Linear;

  constructor(
    scope: WeightScope,
    private readonly sizes: ConvolutionSubsamplingSizes,
  ) {
    const { melBins, hidden, channels, kernel, stride } = sizes;
    this.dense0 = new Linear(scope, "dense_0", [hidden, melBins], { bias: true, initialization: "he" });
    this.convolutions = [hidden, channels].map(
      (outputs, index) => new StridedConvolution(scope, `conv_${index}`, [outputs, hidden, kernel], stride),
    );
    this.dense1 = new Linear(scope, "dense_1", [hidden, channels], { bias: true });
  }

  /** @param features (frames, melBins); returns (hidden frames, hidden) and where each sequence now lies */
  forward(features: Tensor, offsets: SequenceOffsets, context: ForwardContext): { output: Tensor; offsets: SequenceOffsets } {
    let x = this.dense0.forward(features, context, { activation: "relu" });
    for (const convolution of this.convolutions) {
      const input = x;
      ({ output: x, offsets } = convolution.forward(input, offsets, context));
      if (!activeTape()) input.dispose(); // at 100 frames a second the largest tensors of a forward pass
    }
    return { output: this.dense1.forward(x, context), offsets };
  }

  /** Hidden frames made of `frames` log-mel frames. */
  outputLength(frames: number): number {
    for (let layer = 0; layer < 2; layer++) {
      frames = Math.max(0, Math.floor((frames - this.sizes.kernel) / this.sizes.stride) + 1);
    }
    return frames;
  }

  /** All layers with a weight, in their order. */
  get layers(): readonly (Linear | StridedConvolution)[] {
    return [this.dense0, ...this.convolutions, this.dense1];
  }
}
