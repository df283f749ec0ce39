/**
 * Text while somebody speaks. The encoder's attention is confined to chunks: each sees some seconds before what is new
 * and a short look ahead, and only what it says about frames with that look ahead behind them counts (chunk-wise
 * attention with left and right context, as in Chen et al. 2021, "Developing Real-time Streaming Transformer
 * Transducer"). The text so far only ever grows.
 */
import { frameRows } from "../decode/frame_rows.js";
import type { Chunk, ChunkPlanner, Range } from "../decode/overlap.js";
import type { Search } from "./decoding.js";
import type { AudioChunks, FeatureChunk } from "./feature_chunks.js";
import type { Recognizer } from "./recognizer.js";
import type { ResolvedRecordingOptions } from "./recognizer_options.js";

/** Seconds; multiples of an encoder frame. */
export interface StreamingLengths {
  /** Audio that is new in each chunk. */
  readonly step: number;
  /** Audio before it that the encoder attends to. */
  readonly leftContext: number;
  /** Audio behind the frames that count. */
  readonly lookAhead: number;
  /** How long after a word was searched it is decided for, even if the search has not come to agree on it. */
  readonly decisionLag: number;
}

/** Chosen on speakers held out of training; measured in docs/serving.md. */
export const streaming: StreamingLengths = { step: 0.48, leftContext: 5.12, lookAhead: 0.64, decisionLag: 0.4 };

/** What can be said before the end. */
export interface PartialText {
  /** Begins with the text of the partial before. */
  readonly text: string;
  /** Seconds of audio, from the beginning, that it covers. */
  readonly settledSeconds: number;
  /** Seconds of audio that were there when it was computed. */
  readonly heardSeconds: number;
}

/** Ranges of frames of features: [settled - left context, all there is), once a step is new. */
class StreamingPlan implements ChunkPlanner {
  /** Frames before this one have passed through the network with enough look ahead. */
  settled = 0;

  /** @param stride frames of features per encoder frame, of which all lengths are multiples */
  constructor(
    private readonly lengths: { readonly step: number; readonly leftContext: number; readonly lookAhead: number },
    private readonly stride: number,
  ) {}

  advance(length: number): Range[] {
    const { step, leftContext, lookAhead } = this.lengths;
    const end = Math.floor(length / this.stride) * this.stride;
    if (end < this.settled + step + lookAhead) return [];
    const begin = Math.max(0, this.settled - leftContext);
    this.settled = end - lookAhead;
    return [{ begin, end }];
  }

  finish(length: number): Range {
    return { begin: Math.max(0, this.settled - this.lengths.leftContext), end: length };
  }
}

/** To be disposed of, however the recording ends. */
export class PartialRecognition implements Disposable {
  private readonly plan: StreamingPlan;
  private readonly features: AudioChunks;
  private readonly search: Search;
  private readonly stride: number;
  private readonly melRate: number;
  /** Encoder frames that were searched. */
  private searched = 0;

  /** @throws UsmLiteError INVALID_ARGUMENT when a hotword has no letters */
  constructor(
    recognizer: Recognizer,
    options?: ResolvedRecordingOptions,
    private readonly seconds: StreamingLengths = streaming,
  ) {
    this.stride = recognizer.stride;
    this.melRate = recognizer.melRate;
    const frames = (length: number): number => Math.round((length * this.melRate) / this.stride) * this.stride;
    const lengths = { step: frames(seconds.step), leftContext: frames(seconds.leftContext), lookAhead: frames(seconds.lookAhead) };
    this.plan = new StreamingPlan(lengths, this.stride);
    this.features = recognizer.chunksOf(this.plan);
    this.search = recognizer.search(options);
  }

  /** Takes a block of samples and gives the chunk to pass through the network now, if there is enough for one. */
  push(block: Float32Array): FeatureChunk | undefined {
    const [chunk] = [...this.features.push(block)];
    return chunk;
  }

  /** Takes what the network says about the chunk that {@link PartialRecognition.push} gave; rows on the GPU belong to it from now on. */
  advance(chunk: Chunk): PartialText {
    const { firstFrame, frames } = chunk;
    const end = Math.min(this.plan.settled / this.stride, firstFrame + frames);
    const rows = frameRows(chunk, this.searched - firstFrame, end - firstFrame);
    try {
      this.search.advance(rows);
    } finally {
      rows.onGpu?.dispose();
      chunk.onGpu?.dispose();
    }
    this.searched = end;
    const seconds = this.stride / this.melRate;
    const decided = Math.max(0, end - Math.round(this.seconds.decisionLag / seconds));
    this.search.settleBefore?.(decided);
    return { text: this.search.settledText(), settledSeconds: decided * seconds, heardSeconds: (firstFrame + frames) * seconds };
  }

  /** Gives back what it keeps on the GPU. */
  dispose(): void {
    this.search.dispose?.();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
