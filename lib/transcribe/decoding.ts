/** From what the network says about the chunks of one recording to text, while the chunks arrive. */
import type { FrameRows } from "../decode/frame_rows.js";
import type { Hypothesis } from "../decode/hypothesis.js";
import { ChunkJoiner, type Chunk } from "../decode/overlap.js";
import type { Transcript } from "../text/transcript_formats.js";

/** What was said. Times in seconds from the beginning of the audio. */
export interface RecognizedSpeech extends Transcript {
  readonly tokens: readonly { readonly id: number; readonly start: number; readonly end: number; readonly confidence: number }[];
  /** As in {@link Hypothesis}. */
  readonly logProbability: number;
}

/** A search over what the network says of each frame, taken piece by piece. */
export interface Search {
  /** Has done with rows on the GPU when it returns. */
  advance(input: FrameRows): void;
  /** The best hypotheses if the recording ended here; at least one. */
  best(): Hypothesis[];
  /** What the text will begin with, whatever comes. */
  settledText(): string;
  /** Decides for what is most likely before `frame`, whatever comes later; absent where nothing is ever taken back. */
  settleBefore?(frame: number): void;
  /** Gives back what it keeps on the GPU; what was found stays. Absent where nothing is kept there. */
  dispose?(): void;
}

/** @param seconds length of the recording */
export function recognizedSpeech(
  { text, words, tokens, logProbability }: Hypothesis,
  secondsPerFrame: number,
  seconds: number,
): RecognizedSpeech {
  const timed = tokens.map(({ id, firstFrame, endFrame, confidence }) => ({
    id,
    start: firstFrame * secondsPerFrame,
    end: endFrame * secondsPerFrame,
    confidence,
  }));
  return { text, words, tokens: timed, logProbability, duration: seconds };
}

/** One recording: of what the network says, only what it says of the newest chunk is kept. To be disposed of however it ends. */
export class Decoding implements Disposable {
  private readonly joiner: ChunkJoiner;

  /** @param blankId as {@link ChunkJoiner} takes it */
  constructor(
    readonly search: Search,
    blankId: number | undefined,
    private readonly secondsPerFrame: number,
    private readonly samplingRate: number,
  ) {
    this.joiner = new ChunkJoiner(blankId);
  }

  /** Rows of the chunk that are on the GPU belong to it from now on. */
  push(chunk: Chunk): void {
    this.advance(this.joiner.push(chunk));
  }

  /** What the text will begin with, whatever chunks come. */
  settledText(): string {
    return this.search.settledText();
  }

  /** What remains to be searched when the recording has ended; rows on the GPU belong to whoever asked. */
  rest(): FrameRows {
    return this.joiner.finish();
  }

  /** @param samples length of the recording */
  finish(samples: number): RecognizedSpeech {
    this.advance(this.rest());
    return this.result(samples);
  }

  private advance(rows: FrameRows): void {
    try {
      this.search.advance(rows);
    } finally {
      rows.onGpu?.dispose();
    }
  }

  /** {@link Decoding.finish} after the search was advanced over {@link Decoding.rest}. */
  result(samples: number): RecognizedSpeech {
    return recognizedSpeech(this.search.best()[0] as Hypothesis, this.secondsPerFrame, samples / this.samplingRate);
  }

  /** Gives back what it keeps on the GPU. */
  dispose(): void {
    this.joiner.dispose();
    this.search.dispose?.();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
