/** Decoding of a transducer as part of a transcription: token paths become text with times. */
import type { FrameRows } from "../decode/frame_rows.js";
import { hypothesisOf, type FrameTimes, type Hypothesis } from "../decode/hypothesis.js";
import { TransducerBeamSearch, type TransducerBeamOptions } from "../decode/transducer_beam_search.js";
import { TransducerGreedySearch } from "../decode/transducer_greedy.js";
import type { TransducerScorer } from "../decode/transducer.js";
import type { UsmLiteError } from "../errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { Search } from "./decoding.js";

/** Greedy: several recordings take their steps together. */
export class GreedyTransducerSearch implements Search {
  private readonly search: TransducerGreedySearch;

  constructor(
    network: TransducerScorer,
    private readonly tokenizer: Tokenizer,
    private readonly times: FrameTimes,
    tooLarge: (what: string) => UsmLiteError,
  ) {
    this.search = new TransducerGreedySearch(network, tooLarge);
  }

  advance(input: FrameRows): void {
    GreedyTransducerSearch.advanceTogether([this], [input]);
  }

  static advanceTogether(searches: readonly GreedyTransducerSearch[], inputs: readonly FrameRows[]): void {
    TransducerGreedySearch.advance(
      searches.map(({ search }) => search),
      inputs,
    );
  }

  /** The text so far, which later input only ever adds to. */
  settledText(): string {
    return (this.best()[0] as Hypothesis).text;
  }

  best(): Hypothesis[] {
    const { tokens, logProbability } = this.search.path();
    return [hypothesisOf(tokens, logProbability, this.tokenizer, this.times)];
  }

  dispose(): void {
    this.search.dispose();
  }
}

export class BeamTransducerSearch implements Search {
  private readonly search: TransducerBeamSearch;

  constructor(
    network: TransducerScorer,
    private readonly tokenizer: Tokenizer,
    private readonly times: FrameTimes,
    options: TransducerBeamOptions,
  ) {
    this.search = new TransducerBeamSearch(network, { ...options, isSpecial: (id) => tokenizer.isSpecial(id) });
  }

  advance(input: FrameRows): void {
    this.search.advance(input);
  }

  settledText(): string {
    return hypothesisOf(this.search.settledTokens(), 0, this.tokenizer, this.times).text;
  }

  best(): Hypothesis[] {
    return this.search.best().map(({ tokens, logProbability }) => hypothesisOf(tokens, logProbability, this.tokenizer, this.times));
  }
}
