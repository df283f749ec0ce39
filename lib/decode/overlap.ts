/**
 * Long recordings: a model hears overlapping chunks, and what it says about the overlaps is cut so that every frame
 * comes from the chunk in which it has more context on both sides.
 */
import { UsmLiteError } from "../errors.js";
import { frameRows, type FrameRows } from "./frame_rows.js";
import type { LogProbabilities } from "./hypothesis.js";

/** What the model said about a chunk that begins at `firstFrame` of the recording. */
export interface Chunk extends FrameRows {
  readonly firstFrame: number;
}

/** A range [begin, end). */
export interface Range {
  readonly begin: number;
  readonly end: number;
}

/** Says which parts of a recording make chunks while it arrives. Neither begins nor ends of chunks ever go back. */
export interface ChunkPlanner {
  /** The chunks after those given before that are due once `length` samples (or frames) are there. */
  advance(length: number): Range[];
  /** The last chunk of a recording that has `length` in all. `advance(length)` goes before. */
  finish(length: number): Range;
}

/** {@link planChunks} for a recording that arrives piece by piece, of a length not known before its end. */
export class ChunkPlan implements ChunkPlanner {
  private begin = 0;

  /** @throws UsmLiteError INVALID_ARGUMENT unless 0 <= overlap < chunkLength, both multiples of `multiple` */
  constructor(
    private readonly chunkLength: number,
    private readonly overlap: number,
    private readonly multiple = 1,
  ) {
    const valid = [chunkLength, overlap, multiple].every((value) => Number.isInteger(value) && value >= 0);
    if (!valid || overlap >= chunkLength || chunkLength % multiple !== 0 || overlap % multiple !== 0) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `chunks need whole lengths with 0 <= overlap < chunk length, both multiples of ${multiple}; got ${chunkLength} and ${overlap}`,
      );
    }
  }

  advance(length: number): Range[] {
    const chunks: Range[] = [];
    for (; this.begin + this.chunkLength < length; this.begin += this.chunkLength - this.overlap) {
      chunks.push({ begin: this.begin, end: this.begin + this.chunkLength });
    }
    return chunks;
  }

  finish(length: number): Range {
    const last = Math.max(0, Math.ceil((length - this.chunkLength) / this.multiple) * this.multiple);
    return { begin: Math.min(this.begin, last), end: length };
  }
}

/**
 * Splits `length` samples (or frames) into chunks of `chunkLength` that share `overlap` with the next one. The last
 * chunk begins where it is as long as the others, so it shares more. Begins are multiples of `multiple`, so that chunks
 * fall on frames of the model.
 * @throws UsmLiteError INVALID_ARGUMENT as {@link ChunkPlan}
 *
 * @example
 * planChunks(100, 40, 8); // 0 to 40, 32 to 72, 60 to 100
 */
export function planChunks(length: number, chunkLength: number, overlap: number, multiple = 1): Range[] {
  const plan = new ChunkPlan(chunkLength, overlap, multiple);
  return [...plan.advance(length), plan.finish(length)];
}

/**
 * {@link joinChunks} for chunks that arrive one after another: gives rows as soon as no later chunk can change them. Chunks that are on
 * the GPU belong to it; rows that it gives belong to whoever asked.
 */
export class ChunkJoiner implements Disposable {
  private count = 0;
  private last: Chunk | undefined;
  /** Rows of `last` before this frame of the recording were given, or belong to the chunk before. */
  private begin = 0;

  /** @param blankId column of the blank; undefined where there is none: then overlaps are cut in the middle */
  constructor(private readonly blankId: number | undefined) {}

  /**
   * The rows that the next chunk settles: those up to the cut in its overlap with the chunk before.
   * @throws UsmLiteError INVALID_ARGUMENT when it is not in order, or frames between the two are missing; when it is on the GPU and
   *   cuts depend on blanks
   */
  push(chunk: Chunk): FrameRows {
    const { last } = this;
    if (chunk.onGpu && this.blankId !== undefined)
      throw new UsmLiteError("INVALID_ARGUMENT", "chunks on the GPU cannot be cut at blanks; copy their values to the CPU");
    let settled: FrameRows = { values: new Float32Array(0), frames: 0, tokens: chunk.tokens };
    if (!last) {
      this.begin = chunk.firstFrame;
    } else {
      const end = endOf(last);
      if (chunk.tokens !== last.tokens || chunk.firstFrame < last.firstFrame || chunk.firstFrame > end || endOf(chunk) < end) {
        throw new UsmLiteError(
          "INVALID_ARGUMENT",
          `chunk ${this.count} (frames ${chunk.firstFrame} to ${endOf(chunk)}, ${chunk.tokens} tokens) does not continue ` +
            `chunk ${this.count - 1} (frames ${last.firstFrame} to ${end}, ${last.tokens} tokens)`,
        );
      }
      const cut = bestCut(last, chunk, Math.max(this.begin, chunk.firstFrame), end, this.blankId);
      settled = rows(last, this.begin, cut);
      this.begin = cut;
      last.onGpu?.dispose();
    }
    this.last = chunk;
    this.count++;
    return settled;
  }

  /** The rows of the last chunk. @throws UsmLiteError INVALID_ARGUMENT when there was none */
  finish(): FrameRows {
    if (!this.last) throw new UsmLiteError("INVALID_ARGUMENT", "there are no chunks to join");
    return rows(this.last, this.begin, endOf(this.last));
  }

  /** Gives back what it holds on the GPU. */
  dispose(): void {
    this.last?.onGpu?.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * Joins chunks into one sequence without gaps. Each overlap is cut near its middle, at a frame that both chunks hold
 * for a blank, so that no token is cut in two or said twice.
 * @throws UsmLiteError INVALID_ARGUMENT when there is no chunk, they are not in order, or frames between them are missing
 *
 * @example
 * const { frames } = joinChunks([{ ...first, firstFrame: 0 }, { ...second, firstFrame: 32 }]);
 */
export function joinChunks(chunks: readonly Chunk[], blankId = 0): LogProbabilities {
  const joiner = new ChunkJoiner(blankId);
  const parts = [...chunks.map((chunk) => joiner.push(chunk)), joiner.finish()];
  const { tokens } = parts[0] as LogProbabilities;
  const frames = parts.reduce((sum, part) => sum + part.frames, 0);
  const values = new Float32Array(frames * tokens);
  let frame = 0;
  for (const part of parts) {
    values.set(part.values, frame * tokens);
    frame += part.frames;
  }
  return { values, frames, tokens };
}

const endOf = ({ firstFrame, frames }: Chunk): number => firstFrame + frames;

/** Frames [begin, end) of the recording, which `chunk` has. */
const rows = (chunk: Chunk, begin: number, end: number): FrameRows => frameRows(chunk, begin - chunk.firstFrame, end - chunk.firstFrame);

/** Blank enough to cut at: both chunks give it at least this probability. */
const SURE_BLANK = Math.log(0.9);

/** The frame of [begin, end) where `after` takes over. */
function bestCut(before: Chunk, after: Chunk, begin: number, end: number, blankId: number | undefined): number {
  const middle = (begin + end) >> 1;
  if (blankId === undefined) return middle;
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
