/** What loading, compressing and transcribing ask of the networks of all families. */
import type { SequenceScorer } from "../decode/sequence_search.js";
import type { TransducerScorer } from "../decode/transducer.js";
import type { DecoderMemory } from "../nn/decoder_session.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import type { SequenceGeneration } from "./sequence_generation.js";

interface Network {
  /** Trainable tensors by checkpoint name; packed ones are not among them. */
  parameters(): ReadonlyMap<string, Tensor>;
  /** Running statistics by checkpoint name. */
  buffers(): ReadonlyMap<string, Tensor>;
  /** Names of the weights that pruning and quantization apply to. */
  linearWeights(): readonly string[];
  /** Those of them in the blocks of encoder and decoder, nearly all of the model: what a recipe's `spec` covers. */
  blockWeights(): readonly string[];
  /** Number of ids that the network gives scores for. */
  readonly vocabularySize: number;
  /** Values in a frame of features: mel bins, or 1 where the network takes samples. */
  readonly featureSize: number;
  /** Gives the memory of all weights back. */
  dispose(): void;
}

/** What an encoder makes of packed sequences of features. */
export interface Encoded {
  /** (hidden frames, hidden) */
  readonly hidden: Tensor;
  /** Where each sequence lies in `hidden`. */
  readonly offsets: SequenceOffsets;
}

/** Scores every id, the blank included, for every frame (Graves et al. 2006). */
export interface CtcNetwork extends Network {
  readonly kind: "ctc";
  readonly blankId: number;
  /**
   * @param features (frames, feature size) of all sequences, packed
   * @returns also `logits` (hidden frames, vocabulary)
   */
  forward(features: Tensor, offsets: SequenceOffsets): Encoded & { readonly logits: Tensor };
  /** Hidden frames made of this many frames of features. */
  hiddenFrames(featureFrames: number): number;
}

/** An encoder, and a network that scores tokens for its frames. */
export interface TransducerNetwork extends Network, TransducerScorer {
  readonly kind: "transducer";
  readonly vocabularySize: number;
  /**
   * @param features (frames, feature size) of all sequences, packed
   * @returns also `projected` (hidden frames, joint), what {@link TransducerScorer.scores} takes
   */
  encode(features: Tensor, offsets: SequenceOffsets): Encoded & { readonly projected: Tensor };
  /** Hidden frames made of this many frames of features. */
  hiddenFrames(featureFrames: number): number;
}

/** An encoder, and a decoder that looks at all of its frames while it writes token after token (Radford et al. 2023). */
export interface SequenceToSequenceNetwork extends Network, SequenceScorer {
  readonly kind: "sequence-to-sequence";
  /** @param features (frames, feature size) of windows of the model's length, packed */
  encode(features: Tensor, offsets: SequenceOffsets): Encoded;
  /** What the decoder makes of encoded windows: to be disposed of. */
  remember(encoded: Encoded): DecoderMemory;
  /** Keys and values of all layers that it makes of one frame. */
  readonly memoryValuesPerFrame: number;
  readonly generation: SequenceGeneration;
  /** Windows are always of one length, silence behind shorter audio; transformers lays their features out as (mel bins, frames). */
  readonly fixedWindow: boolean;
  /** Hidden frames made of this many frames of features. */
  hiddenFrames(featureFrames: number): number;
}

/** The networks that {@link loadModel} gives; `kind` tells which decoder they need. */
export type SpeechNetwork = CtcNetwork | TransducerNetwork | SequenceToSequenceNetwork;
