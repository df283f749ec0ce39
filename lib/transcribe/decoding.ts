/** From what the network says about the chunks of one recording to text, while the chunks arrive. */
import type { Hypothesis, LogProbabilities } from "../decode/hypothesis.js";
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
  advance(input: LogProbabilities): void;
  /** The best hypotheses if the recording ended here; at least one. */
  best(): Hypothesis[];
  /** What the text will begin with, whatever comes. */
  settledText(): string;
  /** Decides for what is most likely before `frame`, whatever comes later; absent where nothing is ever taken back. */
  settleBefore?(frame: number): void;
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

/** One recording: of what the network says, only what it says of the newest chunk is kept. */
export class Decoding {
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

  push(chunk: Chunk): void {
    this.search.advance(this.joiner.push(chunk));
  }

  /** What the text will begin with, whatever chunks come. */
  settledText(): string {
    return this.search.settledText();
  }

  /** What remains to be searched when the recording has ended. */
  rest(): LogProbabilities {
    return this.joiner.finish();
  }

  /** @param samples length of the recording */
  finish(samples: number): RecognizedSpeech {
    this.search.advance(this.rest());
    return this.result(samples);
  }

  /** {@link Decoding.finish} after the search was advanced over {@link Decoding.rest}. */
  result(samples: number): RecognizedSpeech {
    return recognizedSpeech(this.search.best()[0] as Hypothesis, this.secondsPerFrame, samples / this.samplingRate);
  }
}
