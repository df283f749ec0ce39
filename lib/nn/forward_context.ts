/** What a forward pass is told besides its input. */
import type { RandomStream } from "../ops/random_stream.js";
import type { IntegerWeight } from "../ops/integer_linear.js";
import type { Tensor } from "../tensor/tensor.js";
import type { PositionTable } from "./relative_positions.js";

export interface ForwardContext {
  /** Present while training: seeds dropout. Without it a forward pass is deterministic inference. */
  readonly random?: RandomStream;
  /** While training: leaves out dropout and dropped layers. */
  readonly withoutDropout?: boolean;
  /** While training: batch normalization normalizes with its running statistics and keeps them. */
  readonly keepStatistics?: boolean;
  /** Maps a linear layer's stored weight to the one multiplied by, such as its pruned and quantized version. */
  readonly transformWeight?: (name: string, weight: Tensor) => Tensor;
  /**
   * The packed form of a weight that {@link ForwardContext.transformWeight} made, of the same values: the layer then multiplies in whole
   * numbers, as inference does. Undefined: in floats.
   */
  readonly packedWeight?: (name: string, transformed: Tensor) => IntegerWeight | undefined;
  /** Told what each linear layer is about to multiply: the name of its weight and x (frames, in). */
  readonly observeInput?: (name: string, x: Tensor) => void;
  /** Where attention knows positions by the distance between frames: their embeddings. */
  readonly positions?: PositionTable;
}

/** Called with (hidden frames, hidden) after each block, numbered from 0: for losses on inner layers. */
export type InspectLayer = (hidden: Tensor, layer: number) => void;

/** Options for an operation's `dropout`, or nothing outside training. */
export function dropoutOptions(context: ForwardContext, probability: number): { dropout?: { probability: number; seed: number } } {
  if (!context.random || context.withoutDropout || probability === 0) return {};
  return { dropout: { probability, seed: context.random.nextSeed() } };
}
