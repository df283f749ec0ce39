/** Log-mel features of audio that arrives in blocks, in overlapping chunks: what is held does not grow with the audio. */
import { concatenate } from "../audio/sample_blocks.js";
import type { LogMel } from "../audio/log_mel.js";
import type { ChunkPlanner, Range } from "../decode/overlap.js";
import { tidy } from "../tensor/scope.js";

/** Log-mel frames from `firstFrame` of the audio on. */
export interface FeatureChunk {
  readonly firstFrame: number;
  readonly frames: number;
  /** (frames, featureSize); empty where there are `samples`. */
  readonly values: Float32Array;
  /** Of which the GPU makes the features. */
  readonly samples?: Float32Array;
}

/** The features of one recording, chunk by chunk. */
export interface AudioChunks {
  /** Samples so far. */
  readonly samples: number;
  /** Takes a block of samples of any length and gives the chunks that it completes; take all before going on. */
  push(block: Float32Array): Iterable<FeatureChunk>;
  /** The last chunk, which is the only one when the audio is short. */
  finish(): FeatureChunk;
}

/** One recording. A frame depends only on its own window, so chunks hold the same bits as features of the whole. */
export class FeatureChunks implements AudioChunks {
  /** Samples so far. */
  samples = 0;
  /** Those from the first frame after `last` on, in order. */
  private held: Float32Array[] = [];
  private last: FeatureChunk = { firstFrame: 0, frames: 0, values: new Float32Array(0) };

  constructor(
    private readonly frontEnd: LogMel,
    private readonly plan: ChunkPlanner,
  ) {}

  /** Takes a block of samples of any length and gives the chunks that it completes; take all before going on. */
  *push(block: Float32Array): Generator<FeatureChunk> {
    this.held.push(block);
    this.samples += block.length;
    for (const range of this.plan.advance(this.frontEnd.frames(this.samples))) yield this.chunk(range);
  }

  /** The last chunk, which is the only one when the audio is short. */
  finish(): FeatureChunk {
    return this.chunk(this.plan.finish(this.frontEnd.frames(this.samples)));
  }

  private chunk({ begin, end }: Range): FeatureChunk {
    const { featureSize } = this.frontEnd.config;
    const { firstFrame, frames, values: before } = this.last;
    const shared = before.subarray((begin - firstFrame) * featureSize);
    const values = new Float32Array((end - begin) * featureSize);
    values.set(shared);
    values.set(this.nextFrames(end - (firstFrame + frames)), shared.length);
    return (this.last = { firstFrame: begin, frames: end - begin, values });
  }

  /** Features of the next `count` frames, whose samples are held no longer. */
  private nextFrames(count: number): Float32Array {
    const { hopLength, windowLength } = this.frontEnd.config;
    const samples = concatenate(this.held);
    this.held = [samples.subarray(count * hopLength)];
    return tidy(() => this.frontEnd.logMel(samples.subarray(0, (count - 1) * hopLength + windowLength)).toArray());
  }
}
