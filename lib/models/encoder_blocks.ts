/** Encoders of Conformer blocks as something whose blocks can be trained one at a time. */
import type { ForwardContext } from "../nn/forward_context.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { EncoderBlocks } from "../train/trainable_model.js";
import { forwardContextOf } from "./ctc_training.js";
import type { Encoded } from "./speech_network.js";

interface BlockEncoder {
  /** Checkpoint names: "encoder.layers.0". */
  readonly blockNames: readonly string[];
  subsample(features: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded;
  runBlock(index: number, hidden: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor;
}

/** The blocks of `encoder`, told what a training step tells the whole network. */
export const encoderBlocks = (encoder: BlockEncoder): EncoderBlocks => ({
  prefixes: encoder.blockNames.map((name) => `${name}.`),
  before: (batch, context) => encoder.subsample(batch.features, batch.offsets, forwardContextOf(batch, context)),
  forward: (index, batch, context) => encoder.runBlock(index, batch.features, batch.offsets, forwardContextOf(batch, context)),
});
