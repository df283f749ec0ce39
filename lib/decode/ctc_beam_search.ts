/**
 * CTC prefix beam search (Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition"): sums the
 * probability of all alignments of each token sequence instead of following the single best alignment, and adds what
 * language models and hotwords say about the text while searching (shallow fusion).
 */
import { UsmLiteError } from "../errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import {
  hypothesisOf,
  settledTextOf,
  textOf,
  type DecodedToken,
  type FrameTimes,
  type Hypothesis,
  type LogProbabilities,
} from "./hypothesis.js";
import { LanguageModelScorer } from "./language_model_scorer.js";
import { checkLogProbabilities, logAdd } from "./log_probabilities.js";
import { NativePrefixSearch } from "./native_prefix_search.js";
import { combineScorers, type PrefixScorer } from "./prefix_scorer.js";
import type { PrefixSearch, RankedPrefix } from "./prefix_search.js";
import { ReferencePrefixSearch } from "./reference_prefix_search.js";

/** Width and scorers of a beam search. */
export interface BeamSearchOptions {
  /** Sequences kept after each frame; default 32. */
  readonly beamWidth?: number;
  /** Sequences this far (in nats) below the best are dropped; default 14. */
  readonly beamThreshold?: number;
  /** Tokens this far (in nats) below the most probable one of a frame are not tried; default 8. */
  readonly tokenThreshold?: number;
  /** At most so many tokens are tried per frame; default 20. */
  readonly maximumTokens?: number;
  /**
   * Taken from ln P of the blank in every frame, against the deletions of models that are too sure of it; default 0.
   * `logProbability` of a hypothesis is then that of the changed model.
   */
  readonly blankPenalty?: number;
  /** What is added to the acoustic score: {@link LanguageModelScorer}, {@link HotwordScorer}. */
  readonly scorers?: readonly PrefixScorer[];
}

/** A text that a beam search found. */
export interface BeamHypothesis extends Hypothesis {
  /** What hypotheses are ranked by: `logProbability` plus what the scorers add. */
  readonly score: number;
}

/**
 * Decodes all of `input`; the `nBest` best texts, best first (at least one, which may be empty).
 *
 * @example
 * const [best] = ctcBeamSearch(logProbabilities, tokenizer, { secondsPerFrame: 0.04 }, { beamWidth: 16 });
 */
export function ctcBeamSearch(
  input: LogProbabilities,
  tokenizer: Tokenizer,
  times: FrameTimes,
  options: BeamSearchOptions = {},
  nBest = 1,
): BeamHypothesis[] {
  const search = new CtcBeamSearch(tokenizer, times, options);
  search.advance(input);
  return search.best(nBest);
}

/**
 * A beam search that takes its input piece by piece. Native code does it, unless there are scorers other than one
 * {@link LanguageModelScorer}.
 *
 * @example
 * const search = new CtcBeamSearch(tokenizer, { secondsPerFrame: 0.04 }, { beamWidth: 16 });
 * search.advance(logProbabilities); // as often as there is more
 * const [best] = search.best();
 */
export class CtcBeamSearch {
  private readonly search: PrefixSearch;
  private frame = 0;

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly times: FrameTimes,
    options: BeamSearchOptions = {},
  ) {
    const limits = {
      beamWidth: atLeast("beamWidth", options.beamWidth ?? 32, 1),
      beamThreshold: atLeast("beamThreshold", options.beamThreshold ?? 14, 0),
      tokenThreshold: atLeast("tokenThreshold", options.tokenThreshold ?? 8, 0),
      maximumTokens: atLeast("maximumTokens", options.maximumTokens ?? 20, 1),
      blankPenalty: atLeast("blankPenalty", options.blankPenalty ?? 0, 0),
    };
    const scorers = options.scorers ?? [];
    const [only] = scorers;
    if (!only) this.search = new NativePrefixSearch(tokenizer, limits);
    else if (scorers.length === 1 && only instanceof LanguageModelScorer)
      this.search = new NativePrefixSearch(tokenizer, limits, only.native);
    else this.search = new ReferencePrefixSearch(tokenizer, limits, combineScorers(scorers));
  }

  /** Frames seen so far. */
  get frames(): number {
    return this.frame;
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when the sizes do not fit the tokenizer, or the values are not numbers */
  advance(input: LogProbabilities): void {
    CtcBeamSearch.advanceTogether([this], [input]);
  }

  /**
   * {@link CtcBeamSearch.advance} of several searches, each with its own input; native ones on all threads.
   *
   * @throws UsmLiteError INVALID_ARGUMENT as there, and when a search is there twice or there are not as many inputs
   *
   * @example
   * CtcBeamSearch.advanceTogether([first, second], [logProbabilitiesOfFirst, logProbabilitiesOfSecond]);
   */
  static advanceTogether(searches: readonly CtcBeamSearch[], inputs: readonly LogProbabilities[]): void {
    if (inputs.length !== searches.length || new Set(searches).size !== searches.length) {
      throw new UsmLiteError("INVALID_ARGUMENT", `${searches.length} searches, each there once, need as many inputs, got ${inputs.length}`);
    }
    const natives: NativePrefixSearch[] = [];
    const theirs: LogProbabilities[] = [];
    for (const [index, input] of inputs.entries()) {
      const { search, tokenizer } = searches[index] as CtcBeamSearch;
      checkLogProbabilities(input, tokenizer);
      if (!(search instanceof NativePrefixSearch)) continue;
      natives.push(search);
      theirs.push(input);
    }
    if (natives.length > 0) NativePrefixSearch.advanceTogether(natives, theirs);
    for (const [index, one] of searches.entries()) {
      const input = inputs[index] as LogProbabilities;
      if (!(one.search instanceof NativePrefixSearch)) one.search.advance(input);
      one.frame += input.frames;
    }
  }

  /** The best texts if the utterance ended here. The search can go on afterwards. */
  best(nBest = 1): BeamHypothesis[] {
    const texts = new Map<string, RankedPrefix>();
    for (const prefix of this.search.ranked()) {
      const text = textOf(prefix.ids, this.tokenizer);
      const rival = texts.get(text);
      // Other tokens that spell the same text add to its probability.
      const both = rival && { ...rival, total: logAdd(rival.total, prefix.total), score: logAdd(rival.score, prefix.score) };
      texts.set(text, both ?? prefix);
    }
    const best = [...texts.values()].sort((a, b) => b.score - a.score).slice(0, atLeast("nBest", nBest, 1));
    return best.map((prefix) => this.hypothesis(prefix));
  }

  /** What every text in the beam begins with: later input only ever adds to it. */
  settledText(): string {
    return settledTextOf(this.search.settled(), this.tokenizer);
  }

  /**
   * Decides for what the best sequence says before `frame`: sequences that say otherwise leave the beam (fixed-lag
   * decoding, the forced decision of truncated Viterbi searches).
   */
  settleBefore(frame: number): void {
    this.search.settleBefore(frame);
  }

  private hypothesis({ total, score, ids, firstFrames, endFrames, peaks }: RankedPrefix): BeamHypothesis {
    const tokens = Array.from(ids, (id, index): DecodedToken => ({
      id,
      firstFrame: firstFrames[index] as number,
      endFrame: endFrames[index] as number,
      confidence: Math.exp(peaks[index] as number),
    }));
    return { ...hypothesisOf(tokens, total, this.tokenizer, this.times), score };
  }
}

function atLeast(name: string, value: number, least: number): number {
  if (!(value >= least)) throw new UsmLiteError("INVALID_ARGUMENT", `${name} must be at least ${least}, got ${value}`);
  return value;
}
