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

/** A search over log-probabilities that takes them piece by piece. */
export interface CtcSearch {
  advance(input: LogProbabilities): void;
  /** The best hypotheses if the recording ended here; at least one. */
  best(): Hypothesis[];
  /** What the text will begin with, whatever comes. */
  settledText(): string;
}

/** One recording: of its log-probabilities, only those of the newest chunk are kept. */
export class Decoding {
  private readonly joiner: ChunkJoiner;

  constructor(
    private readonly search: CtcSearch,
    blankId: number,
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

  /** @param samples length of the recording */
  finish(samples: number): RecognizedSpeech {
    this.search.advance(this.joiner.finish());
    const { text, words, tokens, logProbability } = this.search.best()[0] as Hypothesis;
    const timed = tokens.map(({ id, firstFrame, endFrame, confidence }) => ({
      id,
      start: firstFrame * this.secondsPerFrame,
      end: endFrame * this.secondsPerFrame,
      confidence,
    }));
    return { text, words, tokens: timed, logProbability, duration: samples / this.samplingRate };
  }
}
