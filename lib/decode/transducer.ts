/** What decoding of transducers needs: a network that scores tokens, and the frames of an utterance. */
import type { DeviceTensor } from "../device/device_tensor.js";
import type { TransducerDecoder } from "../device/transducer_decoder.js";
import type { Prediction } from "../nn/prediction_network.js";

/** Scores every id, the blank included, for a frame and the tokens so far (Graves 2012), and, with `durations`, by how many frames to go on (Xu et al. 2023). */
export interface TransducerScorer {
  readonly blankId: number;
  readonly vocabularySize: number;
  /** Frames to go on that the network chooses from; empty for RNN-T, which goes on by one frame after a blank. */
  readonly durations: readonly number[];
  /** Tokens after which the decoder goes on to the next frame. */
  readonly maximumSymbolsPerFrame: number;
  /** One more token for each of several hypotheses; the blank begins. */
  predict(tokens: readonly number[], before: readonly (Prediction | undefined)[]): Prediction[];
  /** Scores of ids, then of durations, before softmax: for each row of `frames` (joint) with the prediction beside it. */
  scores(frames: readonly Float32Array[], predictions: readonly Prediction[]): Float32Array;
  /** What decodes greedily on the GPU, for a network that is there. */
  readonly decoderOnGpu?: TransducerDecoder | undefined;
}

/** Frames of one utterance, projected for the joint network. */
export interface TransducerInput {
  /** (frames, joint) row major; empty where they are on the GPU. */
  readonly values: Float32Array;
  readonly frames: number;
  /** (frames, joint), in place of `values`; a search has done with it when it has advanced. */
  readonly onGpu?: DeviceTensor | undefined;
}

/** The same as floats, for a search of the CPU; waits where it comes from the GPU. */
export const floatInput = ({ values, frames, onGpu }: TransducerInput): TransducerInput => ({ values: onGpu?.toArray() ?? values, frames });

/** The frames of a recording that arrive piece by piece; only the newest piece is kept. */
export class HeardFrames {
  /** Frames heard so far. */
  end = 0;
  private begin = 0;
  private piece: TransducerInput = { values: new Float32Array(0), frames: 0 };

  push(piece: TransducerInput): void {
    if (piece.frames === 0) return;
    this.piece = piece;
    this.begin = this.end;
    this.end += piece.frames;
  }

  /** (frames, joint) of the newest piece from this frame on, where they are. */
  from(index: number): Float32Array | DeviceTensor {
    const { values, frames, onGpu } = this.piece;
    return onGpu?.rows(index - this.begin, frames) ?? values.subarray((index - this.begin) * this.width);
  }

  /** (joint), of a frame of the newest piece, which is not on the GPU. */
  frame(index: number): Float32Array {
    return this.piece.values.subarray((index - this.begin) * this.width, (index - this.begin + 1) * this.width);
  }

  private get width(): number {
    return this.piece.values.length / this.piece.frames;
  }
}

export function bestIndex(scores: Float32Array): number {
  let index = 0;
  for (let i = 1; i < scores.length; i++) if ((scores[i] as number) > (scores[index] as number)) index = i;
  return index;
}

/** ln(sum(e^scores)) */
export function logSumExp(scores: Float32Array): number {
  const largest = scores[bestIndex(scores)] as number;
  let sum = 0;
  for (let i = 0; i < scores.length; i++) sum += Math.exp((scores[i] as number) - largest);
  return largest + Math.log(sum);
}
