/** The convolutions that make hidden frames of samples (Baevski et al. 2020, wav2vec 2.0). Training leaves them as they are. */
import { activatedInPlace, type ActivationName } from "../../nn/activated_linear.js";
import type { ForwardContext } from "../../nn/forward_context.js";
import { StridedConvolution } from "../../nn/strided_convolution.js";
import { Norm } from "../../nn/transformer_block.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { instanceNorm } from "../../ops/instance_norm.js";
import { subsampledLength } from "../../ops/subsampling_convolution.js";
import { withoutRecording } from "../../ops/tape.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Wav2Vec2Config } from "./wav2vec2_config.js";

// torch's default, which this family does not configure.
const epsilon = 1e-5;

interface Layer {
  readonly convolution: StridedConvolution;
  /** Comes between the convolution and its activation, if at all. */
  readonly normalize: ((x: Tensor, offsets: SequenceOffsets) => Tensor) | undefined;
  /** Absent where it follows the convolution in the same pass. */
  readonly activation: ActivationName | undefined;
}

export class FeatureEncoder {
  private readonly layers: readonly Layer[];

  constructor(
    scope: WeightScope,
    private readonly config: Wav2Vec2Config,
  ) {
    const { conv_dim, conv_kernel, conv_stride, conv_bias, feat_extract_norm, feat_extract_activation: activation } = config;
    this.layers = conv_dim.map((channels, index) => {
      const inner = scope.scope(`conv_layers.${index}`);
      const shape = [channels, index === 0 ? 1 : (conv_dim[index - 1] as number), conv_kernel[index] as number] as const;
      const normalizes = feat_extract_norm === "layer" || index === 0;
      const inSamePass = normalizes || activation === "silu" ? "none" : activation;
      const options = { activation: inSamePass, bias: conv_bias } as const;
      const convolution = new StridedConvolution(inner, "conv", shape, conv_stride[index] as number, options);
      return {
        convolution,
        normalize: normalizes ? normalization(inner, channels, feat_extract_norm) : undefined,
        activation: inSamePass === "none" ? activation : undefined,
      };
    });
  }

  /** Hidden frames made of `samples` samples. */
  outputLength(samples: number): number {
    const { conv_kernel, conv_stride } = this.config;
    return conv_kernel.reduce((length, kernel, index) => subsampledLength(length, kernel, conv_stride[index] as number), samples);
  }

  /**
   * Not recorded on a tape: fine-tuning keeps these layers, as is usual.
   * @param samples (samples, 1); on the GPU a float32 vector
   * @returns (hidden frames, channels) and where each sequence now lies
   */
  forward(samples: Tensor, offsets: SequenceOffsets, context: ForwardContext = {}): { output: Tensor; offsets: SequenceOffsets } {
    return withoutRecording(() => this.convolve(samples, offsets, context));
  }

  private convolve(samples: Tensor, offsets: SequenceOffsets, context: ForwardContext): { output: Tensor; offsets: SequenceOffsets } {
    let x = samples;
    for (const { convolution, normalize, activation } of this.layers) {
      const { output, offsets: where } = convolution.forward(x, offsets, context);
      const normalized = normalize?.(output, where) ?? output;
      // The largest tensors of a forward pass.
      if (normalized !== output) output.dispose();
      if (x !== samples) x.dispose();
      [x, offsets] = [activation ? activatedInPlace(normalized, activation) : normalized, where];
    }
    return { output: x, offsets };
  }

  /** The convolutions that compression applies to: all but the first, which sees a single channel. */
  get convolutions(): StridedConvolution[] {
    return this.layers.slice(1).map(({ convolution }) => convolution);
  }
}

/** `group`: the first layer alone, over the frames of each channel; `layer`: every layer, over the channels of each frame. */
function normalization(scope: WeightScope, channels: number, kind: "group" | "layer"): NonNullable<Layer["normalize"]> {
  if (kind === "layer") {
    const norm = new Norm(scope, "layer_norm", channels, epsilon);
    return (x) => norm.forward(x);
  }
  const weight = scope.tensor("layer_norm.weight", [channels], "ones");
  const bias = scope.tensor("layer_norm.bias", [channels], "zeros");
  return (x, offsets) => instanceNorm(x, weight, bias, offsets, epsilon);
}
