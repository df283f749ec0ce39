/** The layers behind the encoder that shorten its output (`Wav2Vec2Adapter` in transformers). */
import { withSequences } from "../../nn/adapter_scope.js";
import type { ForwardContext } from "../../nn/forward_context.js";
import { Linear } from "../../nn/linear.js";
import { StridedConvolution } from "../../nn/strided_convolution.js";
import { Norm } from "../../nn/transformer_block.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { glu } from "../../ops/activation.js";
import { padSequences } from "../../ops/row_copies.js";
import { releaseUnlessRecording } from "../../ops/tape.js";
import { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Encoded } from "../speech_network.js";
import { adapterLayers, outputSize, type Wav2Vec2Config } from "./wav2vec2_config.js";

// torch's default, which this family does not configure.
const epsilon = 1e-5;

/** Strided convolutions with gates, behind a projection where the adapter is of another width than the encoder. */
export class Adapter {
  private readonly projection: { readonly linear: Linear; readonly norm: Norm } | undefined;
  readonly convolutions: readonly StridedConvolution[];

  constructor(
    scope: WeightScope,
    private readonly config: Wav2Vec2Config,
  ) {
    const { hidden_size: hidden, adapter_kernel_size: kernel, adapter_stride: stride } = config;
    const output = outputSize(config);
    if (output !== hidden) {
      const linear = new Linear(scope, "proj", [output, hidden], { bias: true });
      this.projection = { linear, norm: new Norm(scope, "proj_layer_norm", output, epsilon) };
    }
    const shape = [2 * output, output, kernel] as const;
    const options = { activation: "none", bias: true } as const;
    this.convolutions = Array.from(
      { length: adapterLayers(config) },
      (_, index) => new StridedConvolution(scope.scope(`layers.${index}`), "conv", shape, stride, options),
    );
  }

  /** @param x (frames, hidden) what the encoder gave */
  forward(x: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded {
    const { projection } = this;
    const hidden = projection ? withSequences(offsets, () => projection.norm.forward(projection.linear.forward(x, context))) : x;
    return this.convolutions.reduce<Encoded>(
      (input, convolution) => {
        const shortened = new SequenceOffsets(input.offsets.lengths.map((length) => strided(length, this.config)));
        const step = (): Tensor => {
          const padded = padSequences(input.hidden, input.offsets, [1, 1]);
          return glu(convolution.forward(padded.output, padded.offsets, context).output);
        };
        return { hidden: releaseUnlessRecording(step), offsets: shortened };
      },
      { hidden, offsets },
    );
  }

  get projections(): readonly Linear[] {
    return this.projection ? [this.projection.linear] : [];
  }
}

/** Frames that a layer makes of `frames`. */
const strided = (frames: number, { adapter_stride }: Wav2Vec2Config): number => Math.ceil(frames / adapter_stride);

/** Frames that the adapter makes of `frames`. */
export function shortenedLength(frames: number, config: Wav2Vec2Config): number {
  let left = frames;
  for (let layer = 0; layer < adapterLayers(config); layer++) left = strided(left, config);
  return left;
}
