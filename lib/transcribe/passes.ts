/** Which chunks of which recordings share a pass of the network. */
import type { Adapter } from "../adapt/adapter.js";
import type { CtcBestPathSearch } from "../decode/ctc_greedy.js";
import type { FrameRows } from "../decode/frame_rows.js";
import type { FeatureChunk } from "./feature_chunks.js";

/** A chunk to pass through the network, and how. */
export interface ForwardChunk extends FeatureChunk {
  readonly adapter?: Adapter | undefined;
  /** Whether only the best token of each frame is wanted, as {@link CtcBestPathSearch} takes it; a CTC network on the GPU heeds it. */
  readonly bestPath?: boolean;
  /** Whether what a transducer's encoder says may stay on the GPU, for greedy decoding there: then whoever gets it owns it ({@link FrameRows}). */
  readonly staysOnGpu?: boolean;
}

/** A chunk of one of several utterances. */
export interface UtteranceChunk extends ForwardChunk {
  readonly utterance: number;
}

/** Groups consecutive chunks so that one forward pass sees at most `maximumFrames`: this bounds memory. */
export function* passes(chunks: Iterable<UtteranceChunk>, maximumFrames: number): Generator<UtteranceChunk[]> {
  let pass: UtteranceChunk[] = [];
  let frames = 0;
  for (const chunk of chunks) {
    if (pass.length > 0 && frames + chunk.frames > maximumFrames) {
      yield pass;
      pass = [];
      frames = 0;
    }
    pass.push(chunk);
    frames += chunk.frames;
  }
  if (pass.length > 0) yield pass;
}
