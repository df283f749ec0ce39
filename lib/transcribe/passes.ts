/** Which chunks of which recordings share a pass of the network. */
import type { Adapter } from "../adapt/adapter.js";
import type { CtcBestPathSearch } from "../decode/ctc_greedy.js";
import type { FrameRows } from "../decode/frame_rows.js";
import type { Chunk } from "../decode/overlap.js";
import { UsmLiteError } from "../errors.js";
import { outputsOf, type Outcome } from "../outcome.js";
import type { FeatureChunk } from "./feature_chunks.js";

/** A chunk to pass through the network, and how. */
export interface ForwardChunk extends FeatureChunk {
  readonly adapter?: Adapter | undefined;
  /** Whether only the best token of each frame is wanted, as {@link CtcBestPathSearch} takes it; a CTC network on the GPU heeds it. */
  readonly bestPath?: boolean;
  /** Whether what a transducer's encoder says may stay on the GPU, for greedy decoding there: then whoever gets it owns it ({@link FrameRows}). */
  readonly staysOnGpu?: boolean;
}

/** With which adapter a chunk passes through the network, and what is wanted of it. */
export type ForwardSettings = Required<Pick<ForwardChunk, "adapter" | "bestPath" | "staysOnGpu">>;

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

/**
 * The results of passes, of which each is asked for before the one before it is waited for, so that a GPU has work while those results are
 * looked at.
 * @param begin asks for a pass; what it returns waits for its results
 * @param drop takes results that were asked for when nobody wants any more
 */
export function* oneAhead<Pass, Results>(
  passes: Iterable<Pass>,
  begin: (pass: Pass) => () => Results,
  drop: (results: Results) => void,
): Generator<{ pass: Pass; results: Results }> {
  let last: { pass: Pass; finish: () => Results } | undefined;
  try {
    for (const pass of passes) {
      const before = last;
      last = { pass, finish: begin(pass) };
      if (before) yield { pass: before.pass, results: before.finish() };
    }
    const end = last;
    last = undefined;
    if (end) yield { pass: end.pass, results: end.finish() };
  } finally {
    if (last) drop(last.finish());
  }
}

/** Of what is said about chunks, whatever is on the GPU and that nobody takes. */
export const dropRows = (said: readonly Chunk[]): void => said.forEach(({ onGpu }) => onGpu?.dispose());

/** What is said about chunks that all count. @throws UsmLiteError what is wrong with one of them */
export const everyChunk = (said: readonly Outcome<Chunk>[]): Chunk[] => outputsOf(said, dropRows);

/** Asked before each pass. @throws UsmLiteError ABORTED when it says so; INVALID_ARGUMENT when it cannot be asked */
export function checkAborted(isAborted: () => boolean): void {
  if (typeof isAborted !== "function")
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      "isAborted must be a function that says whether to stop; options are given to the recognizer when it is made",
    );
  if (isAborted()) throw new UsmLiteError("ABORTED", "the transcription was aborted");
}
