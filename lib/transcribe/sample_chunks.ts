/** Features of audio that arrives in blocks, chunk by chunk, where a frame's features depend on all samples of its chunk. */
import type { FrontEnd } from "../audio/front_end.js";
import { concatenate } from "../audio/sample_blocks.js";
import type { ChunkPlanner, Range } from "../decode/overlap.js";
import { tidy } from "../tensor/scope.js";
import type { AudioChunks, FeatureChunk } from "./feature_chunks.js";

/** One recording. Audio no longer than a chunk gets the features that it would get as a whole. */
export class SampleChunks implements AudioChunks {
  /** Samples so far. */
  samples = 0;
  /** Those from `firstHeld` on, in order. */
  private held: Float32Array[] = [];
  private firstHeld = 0;
  private readonly overhang: number;

  /**
   * @param plan in frames; a frame is as many samples as frames are apart
   * @param gives features, or the samples that they are made of elsewhere
   */
  constructor(
    private readonly frontEnd: FrontEnd,
    private readonly plan: ChunkPlanner,
    private readonly gives: "features" | "samples" = "features",
  ) {
    this.overhang = frontEnd.overhang ?? 0;
  }

  /** Takes a block of samples of any length and gives the chunks that it completes; take all before going on. */
  *push(block: Float32Array): Generator<FeatureChunk> {
    this.held.push(block);
    this.samples += block.length;
    const { hopLength } = this.frontEnd.config;
    for (const { begin, end } of this.plan.advance(this.frontEnd.frames(this.samples))) {
      yield this.chunk({ begin: begin * hopLength, end: end * hopLength + this.overhang });
    }
  }

  /** The last chunk, which is the only one when the audio is short. */
  finish(): FeatureChunk {
    const { hopLength } = this.frontEnd.config;
    const { begin } = this.plan.finish(this.frontEnd.frames(this.samples));
    return this.chunk({ begin: begin * hopLength, end: this.samples });
  }

  /** @param range in samples */
  private chunk({ begin, end }: Range): FeatureChunk {
    const all = concatenate(this.held);
    const samples = all.subarray(begin - this.firstHeld, end - this.firstHeld);
    // Later chunks begin later than this one.
    this.held = [all.subarray(begin - this.firstHeld)];
    this.firstHeld = begin;
    const { featureSize, hopLength } = this.frontEnd.config;
    const firstFrame = begin / hopLength;
    if (this.gives === "samples") {
      // A copy: whoever sent the block may use it again.
      return { firstFrame, frames: this.frontEnd.frames(samples.length), values: new Float32Array(0), samples: samples.slice() };
    }
    const values = tidy(() => this.frontEnd.features(samples).toArray());
    return { firstFrame, frames: values.length / featureSize, values };
  }
}
