/** Encoders and decoders as stacks of blocks that can be trained one at a time. */
import type { ForwardContext } from "../nn/forward_context.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { BlockStack } from "../train/trainable_model.js";
import { forwardContextOf } from "./ctc_training.js";
import { tokensGiven } from "./sequence_training.js";
import type { SequenceGeneration } from "./sequence_generation.js";
import type { Encoded } from "./speech_network.js";

interface BlockEncoder {
  /** Checkpoint names: "encoder.layers.0". */
  readonly blockNames: readonly string[];
  /** What the first block is given. */
  subsample(features: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded;
  runBlock(index: number, hidden: Tensor, offsets: SequenceOffsets, context: ForwardContext): Tensor;
}

/** The blocks of `encoder`, told what a training step tells the whole network. */
export const encoderStack = (encoder: BlockEncoder): BlockStack => ({
  prefixes: encoder.blockNames.map((name) => `${name}.`),
  before: (batch, context) => encoder.subsample(batch.features, batch.offsets, forwardContextOf(batch, context)),
  forward: (index, batch, context) => encoder.runBlock(index, batch.features, batch.offsets, forwardContextOf(batch, context)),
});

interface BlockDecoder {
  readonly blockNames: readonly string[];
  runBlock(index: number, hidden: Tensor, offsets: SequenceOffsets, encoded: Encoded, context: ForwardContext): Tensor;
}

/** What comes before the blocks of a decoder. */
interface DecoderInput {
  readonly generation: SequenceGeneration;
  encode(features: Tensor, offsets: SequenceOffsets, context: ForwardContext): Encoded;
  beginDecoding(
    encoded: Encoded,
    sequences: readonly (readonly number[])[],
    context: ForwardContext,
  ): Encoded & { readonly memory: Encoded };
}

/** The blocks of `decoder`, given the tokens that training gives it, and what the encoder of `network` says. */
export const decoderStack = (network: DecoderInput, decoder: BlockDecoder): BlockStack => ({
  prefixes: decoder.blockNames.map((name) => `${name}.`),
  before: (batch, context) => {
    const forward = forwardContextOf(batch, context);
    return network.beginDecoding(network.encode(batch.features, batch.offsets, forward), tokensGiven(network.generation, batch), forward);
  },
  forward: (index, batch, context) =>
    decoder.runBlock(index, batch.features, batch.offsets, batch.memory as Encoded, forwardContextOf(batch, context)),
});
