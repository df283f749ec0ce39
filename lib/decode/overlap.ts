/**
 * Long recordings: a model hears overlapping chunks, and what it says about the overlaps is cut so that every frame
 * comes from the chunk in which it has more context on both sides.
 */
import { UsmLiteError } from "../errors.js";
import type { LogProbabilities } from "./hypothesis.js";

/** What the model said about a chunk that begins at `firstFrame` of the recording. */
export interface Chunk extends LogProbabilities {
  readonly firstFrame: number;
}

/** A range [begin, end). */
export interface Range {
  readonly begin: number;
  readonly end: number;
}

/**
 * Splits `length` samples (or frames) into chunks of `chunkLength` that share `overlap` with the next one. The last
 * chunk begins where it is as long as the others, so it shares more. Begins are multiples of `multiple`, so that chunks
 * fall on frames of the model.
 * @throws UsmLiteError INVALID_ARGUMENT unless 0 <= overlap < chunkLength, both multiples of `multiple`
 */
export function planChunks(length: number, chunkLength: number, overlap: number, multiple = 1): Range[] {
  const valid = [length, chunkLength, overlap, multiple].every((value) => Number.isInteger(value) && value >= 0);
  if (!valid || overlap >= chunkLength || chunkLength % multiple !== 0 || overlap % multiple !== 0) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `chunks need whole lengths with 0 <= overlap < chunk length, both multiples of ${multiple}; got ${chunkLength} and ${overlap}`,
    );
  }
  const chunks: Range[] = [];
  for (let begin = 0; ; begin += chunkLength - overlap) {
    if (begin + chunkLength >= length) {
      const last = Math.max(0, Math.ceil((length - chunkLength) / multiple) * multiple);
      chunks.push({ begin: Math.min(begin, last), end: length });
      return chunks;
    }
    chunks.push({ begin, end: begin + chunkLength });
  }
}

/**
 * Joins chunks into one sequence without gaps. Each overlap is cut near its middle, at a frame that both chunks hold
 * for a blank, so that no token is cut in two or said twice.
 * @throws UsmLiteError INVALID_ARGUMENT when there is no chunk, they are not in order, or frames between them are missing
 */
export function joinChunks(chunks: readonly Chunk[], blankId = 0): LogProbabilities {
  const [first] = chunks;
  if (!first) throw new UsmLiteError("INVALID_ARGUMENT", "there are no chunks to join");
  const { tokens } = first;
  const kept: Range[] = chunks.map(({ firstFrame, frames }) => ({ begin: firstFrame, end: firstFrame + frames }));
  for (let i = 1; i < chunks.length; i++) {
    const [before, after] = [chunks[i - 1] as Chunk, chunks[i] as Chunk];
    const [left, right] = [kept[i - 1] as Range, kept[i] as Range];
    if (after.tokens !== tokens || right.begin < before.firstFrame || right.begin > left.end || right.end < left.end) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `chunk ${i} (frames ${right.begin} to ${right.end}, ${after.tokens} tokens) does not continue chunk ${i - 1} ` +
          `(frames ${before.firstFrame} to ${left.end}, ${tokens} tokens)`,
      );
    }
    const cut = bestCut(before, after, Math.max(left.begin, right.begin), left.end, blankId);
    kept[i - 1] = { begin: left.begin, end: cut };
    kept[i] = { begin: cut, end: right.end };
  }
  const end = (kept.at(-1) as Range).end;
  const frames = end - first.firstFrame;
  const values = new Float32Array(frames * tokens);
  chunks.forEach((chunk, i) => {
    const range = kept[i] as Range;
    const rows = chunk.values.subarray(
      (range.begin - chunk.firstFrame) * tokens,
      (range.end - chunk.firstFrame) * tokens,
    );
    values.set(rows, (range.begin - first.firstFrame) * tokens);
  });
  return { values, frames, tokens };
}

/** Blank enough to cut at: both chunks give it at least this probability. */
const SURE_BLANK = Math.log(0.9);

/** The frame of [begin, end) where `after` takes over. */
function bestCut(before: Chunk, after: Chunk, begin: number, end: number, blankId: number): number {
  const middle = (begin + end) >> 1;
  const reach = (end - begin) >> 2; // near the ends of the overlap one of the chunks lacks context
  let best = middle;
  let bestBlank = -Infinity;
  for (let distance = 0; distance <= reach; distance++) {
    for (const frame of [middle - distance, middle + distance]) {
      if (frame < begin || frame >= end) continue;
      const blank = Math.min(blankScore(before, frame, blankId), blankScore(after, frame, blankId));
      if (blank >= SURE_BLANK) return frame;
      if (blank > bestBlank) [best, bestBlank] = [frame, blank];
    }
  }
  return best;
}

const blankScore = (chunk: Chunk, frame: number, blankId: number): number =>
  chunk.values[(frame - chunk.firstFrame) * chunk.tokens + blankId] as number;
