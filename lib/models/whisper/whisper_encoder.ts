/** The Transformer encoder of Whisper (Radford et al. 2023). */
import { DeviceTensor } from "../../device/device_tensor.js";
import { addendOnGpu } from "../../device/placement.js";
import { RecordedPasses } from "../../device/recorded_passes.js";
import { UsmLiteError } from "../../errors.js";
import { activeAdapters } from "../../nn/adapter_scope.js";
import type { ForwardContext, InspectLayer } from "../../nn/forward_context.js";
import type { Linear } from "../../nn/linear.js";
import type { NormReaders } from "../../nn/norm_readers.js";
import { StridedConvolution } from "../../nn/strided_convolution.js";
import { Norm, TransformerBlock } from "../../nn/transformer_block.js";
import type { WeightScope } from "../../nn/weight_source.js";
import { addInPlace } from "../../ops/add_in_place.js";
import { scaledSum } from "../../ops/elementwise.js";
import { gatherRows, padSequences } from "../../ops/row_copies.js";
import { activeTape, releaseUnlessRecording, withoutRecording } from "../../ops/tape.js";
import type { SequenceOffsets } from "../../tensor/sequence_offsets.js";
import type { Tensor } from "../../tensor/tensor.js";
import type { Encoded } from "../speech_network.js";
import type { WhisperConfig } from "./whisper_config.js";

export const whisperLayerNormEpsilon = 1e-5;

const names = {
  attention: "self_attn",
  query: "q_proj",
  key: "k_proj",
  value: "v_proj",
  output: "out_proj",
  attentionNorm: "self_attn_layer_norm",
  inner: "fc1",
  outer: "fc2",
  feedForwardNorm: "final_layer_norm",
} as const;

export class WhisperEncoder {
  readonly blockNames: readonly string[];
  readonly convolutions: readonly StridedConvolution[];
  private readonly positions: Tensor;
  private readonly blocks: readonly TransformerBlock[];
  private readonly norm: Norm;
  /** Forward passes on the GPU for inference. Windows are all as long. */
  private readonly passes = new RecordedPasses({
    forward: (features, offsets) => this.compute(features, offsets, {}),
    hiddenFrames: (frames) => Math.ceil(frames / 2),
    room: (frames) => frames,
  });

  constructor(
    scope: WeightScope,
    private readonly config: WhisperConfig,
  ) {
    const { d_model: hidden, num_mel_bins, max_source_positions } = config;
    const options = { activation: "gelu", bias: true } as const;
    this.convolutions = [
      new StridedConvolution(scope, "conv1", [hidden, num_mel_bins, 3], 1, options),
      new StridedConvolution(scope, "conv2", [hidden, hidden, 3], 2, options),
    ];
    this.positions = scope.tensor("embed_positions.weight", [max_source_positions, hidden], "small");
    const sizes = {
      hidden,
      heads: config.encoder_attention_heads,
      intermediate: config.encoder_ffn_dim,
      activation: config.activation_function,
      layerNormEpsilon: whisperLayerNormEpsilon,
      normalizeFirst: true,
      keyBias: false,
      names,
    };
    const layers = Array.from({ length: config.encoder_layers }, (_, index) => `layers.${index}`);
    this.blocks = layers.map((name) => new TransformerBlock(scope.scope(name), sizes));
    this.blockNames = layers.map((name) => scope.nameOf(name));
    this.norm = new Norm(scope, "layer_norm", hidden, whisperLayerNormEpsilon);
  }

  /**
   * The embeddings of positions are sinusoids and are not trained.
   * @param features (frames, mel bins) of windows of 2 * max_source_positions frames
   * @returns (hidden frames, hidden), max_source_positions for each window
   * @throws UsmLiteError INVALID_ARGUMENT for windows of another length
   */
  forward(features: Tensor, offsets: SequenceOffsets, context: ForwardContext = {}, inspectLayer?: InspectLayer): Encoded {
    this.checkWindows(offsets);
    const isTrained = this.positions instanceof DeviceTensor;
    if (features instanceof DeviceTensor && !isTrained && !inspectLayer && !activeAdapters()) return this.passes.run(features, offsets);
    return this.compute(features, offsets, context, inspectLayer);
  }

  private compute(features: Tensor, offsets: SequenceOffsets, context: ForwardContext, inspectLayer?: InspectLayer): Encoded {
    const subsampled = this.subsample(features, offsets, context);
    let x = subsampled.hidden;
    this.blocks.forEach((_, layer) => {
      const input = x;
      x = this.runBlock(layer, input, subsampled.offsets, context);
      if (inspectLayer) inspectLayer(x, layer);
      else if (!activeTape()) input.dispose();
    });
    const hidden = this.norm.forward(x);
    if (!inspectLayer && !activeTape()) x.dispose();
    return { hidden, offsets: subsampled.offsets };
  }

  /** What the first block is given, as {@link WhisperEncoder.forward}. */
  subsample(features: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded {
    this.checkWindows(offsets);
    const release = (x: Tensor): void => {
      if (!activeTape() && x !== features) x.dispose();
    };
    let x = features;
    for (const convolution of this.convolutions) {
      const padded = padSequences(x, offsets, [1, 1]);
      const convolved = convolution.forward(padded.output, padded.offsets, context);
      release(padded.output);
      release(x);
      x = convolved.output;
      offsets = convolved.offsets;
    }
    const unplaced = x;
    const isTrainedOnGpu = this.positions instanceof DeviceTensor;
    x =
      unplaced instanceof DeviceTensor && !isTrainedOnGpu
        ? this.placedOnGpu(unplaced, offsets)
        : releaseUnlessRecording(() => scaledSum(unplaced, 1, this.positionsOf(offsets), 1));
    if (x !== unplaced) release(unplaced);
    return { hidden: x, offsets };
  }

  private checkWindows({ lengths }: SequenceOffsets): void {
    const wanted = 2 * this.config.max_source_positions;
    const wrong = lengths.find((length) => length !== wanted);
    if (wrong !== undefined)
      throw new UsmLiteError("INVALID_ARGUMENT", `a window has ${wrong} frames of features; this model takes ${wanted}`);
  }

  /** What block `index` makes of (hidden frames, hidden). */
  runBlock(index: number, hidden: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor {
    return (this.blocks[index] as TransformerBlock).forward(hidden, offsets, context);
  }

  /** (hidden frames, hidden), those of each window. */
  private positionsOf(offsets: SequenceOffsets): Tensor {
    return withoutRecording(() =>
      gatherRows(
        this.positions,
        offsets.lengths.flatMap((length) => [...Array(length).keys()]),
      ),
    );
  }

  /** The same, added to frames that nothing else uses. */
  private placedOnGpu(x: DeviceTensor, offsets: SequenceOffsets): DeviceTensor {
    offsets.lengths.forEach((length, window) => {
      using frames = x.rows(offsets.begin(window), offsets.begin(window) + length);
      addInPlace(frames, addendOnGpu(this.positions));
    });
    return x;
  }

  get linears(): Linear[] {
    return this.blocks.flatMap((block) => block.linears);
  }

  get normReaders(): readonly NormReaders[] {
    return this.blocks.flatMap((block) => block.normReaders);
  }

  /** To be called after weights changed by other means than a training step, and when they go. */
  weightsChanged(): void {
    this.passes.dispose();
  }
}
