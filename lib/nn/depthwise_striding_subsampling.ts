/**
 * The front of FastConformer (Rekesh et al. 2023): strided two-dimensional convolutions, depthwise but the first, make one hidden
 * frame of eight log-mel frames.
 */
import { UsmLiteError } from "../errors.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { convolvedLength, planeConvolution } from "../ops/plane_convolution.js";
import { linear } from "../ops/linear.js";
import { reshape } from "../ops/reshape.js";
import { swapColumnAxes } from "../ops/swap_axes.js";
import { activeTape } from "../ops/tape.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { ForwardContext } from "./forward_context.js";
import { Linear } from "./linear.js";
import type { WeightScope } from "./weight_source.js";

interface DepthwiseStridingSizes {
  readonly melBins: number;
  readonly hidden: number;
  readonly channels: number;
  /** Log-mel frames per hidden frame: a power of two. */
  readonly factor: number;
}

interface Convolution {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

const kernel = 3;
const steps = { stride: 2, padding: 1 } as const;
// Hidden frames computed at once. Between them lie planes of mel bins times channels, which would fill the memory with the frames of a
// long recording.
const blockFrames = 128;

export class DepthwiseStridingSubsampling {
  private readonly first: Convolution;
  /** After the first: a depthwise convolution with the pointwise one that follows it. */
  private readonly layers: readonly { readonly depthwise: Convolution; readonly pointwise: Convolution }[];
  /** (hidden, channels * mel bins left) */
  readonly output: Linear;

  constructor(
    scope: WeightScope,
    private readonly sizes: DepthwiseStridingSizes,
  ) {
    const { melBins, hidden, channels, factor } = sizes;
    const convolution = (index: number, shape: readonly number[]): Convolution => ({
      weight: scope.tensor(`layers.${index}.weight`, shape, "fanIn"),
      bias: scope.tensor(`layers.${index}.bias`, [channels], "zeros"),
    });
    this.first = convolution(0, [channels, 1, kernel, kernel]);
    this.layers = Array.from({ length: Math.log2(factor) - 1 }, (_, layer) => ({
      depthwise: convolution(2 + 3 * layer, [channels, 1, kernel, kernel]),
      pointwise: convolution(3 + 3 * layer, [channels, channels, 1, 1]),
    }));
    this.output = new Linear(scope, "linear", [hidden, channels * Math.floor(melBins / factor)], { bias: true });
  }

  /** Hidden frames made of `frames` log-mel frames. */
  outputLength(frames: number): number {
    for (let factor = 1; factor < this.sizes.factor; factor *= 2) frames = convolvedLength(frames, kernel, steps);
    return frames;
  }

  /**
   * @param features (frames, melBins)
   * @param scale factor of the result
   * @returns (hidden frames, hidden) and where each sequence now lies
   */
  forward(features: Tensor, offsets: SequenceOffsets, context: ForwardContext, scale = 1): { output: Tensor; offsets: SequenceOffsets } {
    // On the GPU there is memory for all frames at once.
    if (features instanceof DeviceTensor) {
      const { output: planes, offsets: outputOffsets } = this.planes(features, offsets);
      const output = this.output.forward(planes, context, { scale });
      releaseNow(planes);
      return { output, offsets: outputOffsets };
    }
    const outputOffsets = new SequenceOffsets(offsets.lengths.map((length) => this.outputLength(length)));
    // Blocks would leave the tape; batches in training are short.
    if (activeTape())
      return { output: this.output.forward(this.planes(features, offsets).output, context, { scale }), offsets: outputOffsets };
    const rows = new Float32Array(outputOffsets.frames * this.sizes.hidden);
    let row = 0;
    offsets.lengths.forEach((length, sequence) => {
      const first = offsets.begin(sequence);
      const frames = outputOffsets.lengths[sequence] as number;
      for (let begin = 0; begin < frames; begin += blockFrames) {
        const end = Math.min(begin + blockFrames, frames);
        const block = tidy(() => this.block(features, { first, length }, [begin, end], context, scale).toArray());
        rows.set(block, row * this.sizes.hidden);
        row += end - begin;
      }
    });
    return { output: Tensor.from(rows, [outputOffsets.frames, this.sizes.hidden]), offsets: outputOffsets };
  }

  /** Hidden frames [begin, end) of the sequence of `length` log-mel frames that begins at row `first`. */
  private block(
    features: Tensor,
    { first, length }: { readonly first: number; readonly length: number },
    [begin, end]: readonly [number, number],
    context: ForwardContext,
    scale: number,
  ): Tensor {
    // What lies before a block reaches only its first hidden frame: one more is computed and left out.
    const spare = begin > 0 ? 1 : 0;
    const input = features.rows(first + (begin - spare) * this.sizes.factor, first + Math.min(end * this.sizes.factor, length));
    const planes = this.planes(input, new SequenceOffsets([input.dim(0)])).output;
    return this.output.forward(planes.rows(spare, spare + end - begin), context, { scale });
  }

  /** (hidden frames, channels * mel bins left), channel by channel: what the output layer takes; and where each sequence now lies. */
  private planes(features: Tensor, frames: SequenceOffsets): { output: Tensor; offsets: SequenceOffsets } {
    const { factor, channels } = this.sizes;
    let plane = planeConvolution(features, this.first.weight, this.first.bias, frames, {
      features: this.sizes.melBins,
      ...steps,
      activation: "relu",
    });
    for (const { depthwise, pointwise } of this.layers) {
      const {
        output,
        offsets,
        features: bins,
      } = planeConvolution(plane.output, depthwise.weight, depthwise.bias, plane.offsets, {
        features: plane.features,
        ...steps,
      });
      const cells = reshape(output, [offsets.frames * bins, channels]);
      const mixed = linear(cells, pointwise.weight, { bias: pointwise.bias, activation: "relu" });
      releaseNow(plane.output, output, cells); // before there are tensors for the next layer
      plane = { output: reshape(mixed, [offsets.frames, bins * channels]), offsets, features: bins };
      releaseNow(mixed);
    }
    const { output, offsets, features: bins } = plane;
    if (bins !== Math.floor(this.sizes.melBins / factor)) {
      throw new UsmLiteError("BAD_CONFIG", `${this.sizes.melBins} mel bins do not shrink to a whole number by a factor of ${factor}`);
    }
    const byChannel = swapColumnAxes(output, bins);
    releaseNow(output);
    return { output: byChannel, offsets };
  }
}

function releaseNow(...tensors: readonly Tensor[]): void {
  if (!activeTape()) for (const tensor of tensors) tensor.dispose();
}
