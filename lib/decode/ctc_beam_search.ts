/**
 * CTC prefix beam search (Hannun et al. 2014, "First-Pass Large Vocabulary Continuous Speech Recognition"): sums the
 * probability of all alignments of each token sequence instead of following the single best alignment, and adds what
 * language models and hotwords say about the text while searching (shallow fusion).
 */
import { UsmLiteError } from "../errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import {
  hypothesisOf,
  type DecodedToken,
  type FrameTimes,
  type Hypothesis,
  type LogProbabilities,
} from "./hypothesis.js";
import { checkLogProbabilities, logAdd } from "./log_probabilities.js";
import { PathSum, Prefix, type Alignment } from "./prefix.js";
import { combineScorers, type PrefixScorer } from "./prefix_scorer.js";

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

// Scorers are not asked about a token when the sequence would not survive even if they added this many nats.
const SCORER_HEADROOM = 6;

export interface BeamHypothesis extends Hypothesis {
  /** What hypotheses are ranked by: `logProbability` plus what the scorers add. */
  readonly score: number;
}

/** Decodes all of `input`; the `nBest` best texts, best first (at least one, which may be empty). */
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

/** A beam search that takes its input piece by piece. */
export class CtcBeamSearch {
  private readonly beamWidth: number;
  private readonly beamThreshold: number;
  private readonly tokenThreshold: number;
  private readonly maximumTokens: number;
  private readonly blankPenalty: number;
  private readonly scorer: PrefixScorer;
  private readonly headroom: number;
  private readonly allowed: readonly number[];
  private beam: Prefix[];
  private settled: Prefix;
  private frame = 0;

  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly times: FrameTimes,
    options: BeamSearchOptions = {},
  ) {
    this.beamWidth = atLeast("beamWidth", options.beamWidth ?? 32, 1);
    this.beamThreshold = atLeast("beamThreshold", options.beamThreshold ?? 14, 0);
    this.tokenThreshold = atLeast("tokenThreshold", options.tokenThreshold ?? 8, 0);
    this.maximumTokens = atLeast("maximumTokens", options.maximumTokens ?? 20, 1);
    this.blankPenalty = atLeast("blankPenalty", options.blankPenalty ?? 0, 0);
    this.scorer = combineScorers(options.scorers ?? []);
    this.headroom = options.scorers?.length ? SCORER_HEADROOM : 0;
    this.allowed = tokenizer.pieces.flatMap((_, id) => (tokenizer.isSpecial(id) ? [] : [id]));
    this.settled = Prefix.empty(tokenizer.blankId, this.scorer.start());
    this.beam = [this.settled];
  }

  /** Frames seen so far. */
  get frames(): number {
    return this.frame;
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when the sizes do not fit the tokenizer */
  advance(input: LogProbabilities): void {
    checkLogProbabilities(input, this.tokenizer);
    for (let row = 0; row < input.frames; row++) {
      const frame = input.values.slice(row * input.tokens, (row + 1) * input.tokens);
      frame[this.tokenizer.blankId] = (frame[this.tokenizer.blankId] as number) - this.blankPenalty;
      this.step(frame);
    }
  }

  /** The best texts if the utterance ended here. The search can go on afterwards. */
  best(nBest = 1): BeamHypothesis[] {
    const ranked = this.beam
      .map((prefix) => ({ prefix, score: prefix.total + this.scorer.finish(prefix.state) }))
      .sort((a, b) => b.score - a.score);
    const texts = new Map<string, BeamHypothesis>();
    for (const { prefix, score } of ranked) {
      const hypothesis = { ...this.hypothesis(prefix), score };
      const rival = texts.get(hypothesis.text);
      // Other tokens that spell the same text add to its probability.
      texts.set(
        hypothesis.text,
        rival
          ? {
              ...rival,
              logProbability: logAdd(rival.logProbability, hypothesis.logProbability),
              score: logAdd(rival.score, score),
            }
          : hypothesis,
      );
    }
    return [...texts.values()].sort((a, b) => b.score - a.score).slice(0, atLeast("nBest", nBest, 1));
  }

  /** What every text in the beam begins with: later input only ever adds to it. */
  settledText(): string {
    this.settled = this.settled.settled();
    const tokens: DecodedToken[] = [];
    for (let prefix = this.settled; prefix.parent; prefix = prefix.parent) {
      tokens.push({ id: prefix.id, firstFrame: 0, endFrame: 0, confidence: 1 });
    }
    return hypothesisOf(tokens.reverse(), 0, this.tokenizer, this.times).text;
  }

  /**
   * Decides for what the best sequence says before `frame`: sequences that say otherwise leave the beam (fixed-lag
   * decoding, the forced decision of truncated Viterbi searches).
   */
  settleBefore(frame: number): void {
    let decided = this.beam.reduce((best, prefix) => (prefix.score > best.score ? prefix : best));
    const { alignments } = decided.path();
    for (let last = alignments.length - 1; last >= 0 && (alignments[last] as Alignment).firstFrame >= frame; last--) {
      decided = decided.parent as Prefix;
    }
    const kept = this.beam.filter((prefix) => prefix.descendsFrom(decided));
    const keptSet = new Set(kept);
    for (const prefix of this.beam) if (!keptSet.has(prefix)) prefix.deactivate();
    this.beam = kept;
  }

  private hypothesis(prefix: Prefix): Hypothesis {
    const { ids, alignments } = prefix.path();
    const tokens = alignments.map(
      ({ firstFrame, endFrame, peak }, index): DecodedToken => ({
        id: ids[index] as number,
        firstFrame,
        endFrame,
        confidence: Math.exp(peak),
      }),
    );
    return hypothesisOf(tokens, prefix.total, this.tokenizer, this.times);
  }

  private step(row: Float32Array): void {
    for (const prefix of this.beam) this.stay(prefix, row);
    const floor = this.floor();
    const tokens = this.tokensOf(row);
    const born: Prefix[] = [];
    for (const prefix of this.beam) {
      for (const id of tokens) this.extend(prefix, id, row[id] as number, floor, born);
    }
    const candidates = this.beam.concat(born);
    for (const prefix of candidates) prefix.advance();
    const least = candidates.reduce((best, { score }) => Math.max(best, score), -Infinity) - this.beamThreshold;
    const survivors = candidates.filter(({ score }) => score >= least);
    if (survivors.length === 0)
      throw new UsmLiteError("INVALID_ARGUMENT", `the log-probabilities of frame ${this.frame} are not numbers`);
    survivors.sort((a, b) => b.score - a.score);
    survivors.length = Math.min(survivors.length, this.beamWidth);
    const kept = new Set(survivors);
    for (const prefix of survivors) if (!prefix.active) prefix.activate();
    for (const prefix of this.beam) if (!kept.has(prefix)) prefix.deactivate();
    this.beam = survivors;
    this.frame++;
  }

  /** A score that every survivor of this frame will reach, as the sequences that stay as they are already do. */
  private floor(): number {
    const scores = this.beam.map(
      ({ nextEndingInBlank, nextEndingInToken, state }) =>
        logAdd(nextEndingInBlank.total, nextEndingInToken.total) + state.score,
    );
    scores.sort((a, b) => b - a);
    return Math.max((scores[0] as number) - this.beamThreshold, scores[this.beamWidth - 1] ?? -Infinity);
  }

  /** Tokens worth trying: within the threshold of the best of the frame, and not too many. */
  private tokensOf(row: Float32Array): number[] {
    let highest = row[this.tokenizer.blankId] as number;
    for (const id of this.allowed) if ((row[id] as number) > highest) highest = row[id] as number;
    const least = highest - this.tokenThreshold;
    const tokens = this.allowed.filter((id) => (row[id] as number) >= least);
    if (tokens.length <= this.maximumTokens) return tokens;
    return tokens.sort((a, b) => (row[b] as number) - (row[a] as number)).slice(0, this.maximumTokens);
  }

  /** The same sequence: a blank follows, or its last token is repeated. */
  private stay(prefix: Prefix, row: Float32Array): void {
    const { endingInBlank: blank, endingInToken: token, nextEndingInBlank, nextEndingInToken } = prefix;
    const blankScore = row[this.tokenizer.blankId] as number;
    nextEndingInBlank.total = prefix.total + blankScore;
    const from = blank.best > token.best ? blank : token;
    nextEndingInBlank.best = from.best + blankScore;
    nextEndingInBlank.alignment = from.alignment;
    if (token.total === -Infinity) return;
    const repeatScore = row[prefix.id] as number;
    nextEndingInToken.total = token.total + repeatScore;
    nextEndingInToken.best = token.best + repeatScore;
    const { alignment } = token;
    nextEndingInToken.alignment = alignment && {
      previous: alignment.previous,
      firstFrame: alignment.firstFrame,
      endFrame: this.frame + 1,
      peak: Math.max(alignment.peak, repeatScore),
    };
  }

  /** One more token. A token equal to the last one needs a blank between them. */
  private extend(prefix: Prefix, id: number, score: number, floor: number, born: Prefix[]): void {
    const repeats = id === prefix.id && prefix.parent !== undefined;
    const total = (repeats ? prefix.endingInBlank.total : prefix.total) + score;
    if (total === -Infinity) return;
    let child = prefix.child(id);
    if (!child?.active) {
      if (total + prefix.state.score + this.headroom < floor) return;
      const state = child?.state ?? this.scorer.extend(prefix.state, id);
      if (total + state.score < floor) return;
      child ??= new Prefix(prefix, id, state);
      born.push(child);
    }
    const { endingInBlank: blank, endingInToken: token } = prefix;
    const from: PathSum = repeats || blank.best > token.best ? blank : token;
    const next = child.nextEndingInToken;
    next.total = logAdd(next.total, total);
    if (from.best + score > next.best) {
      next.best = from.best + score;
      next.alignment = { previous: from.alignment, firstFrame: this.frame, endFrame: this.frame + 1, peak: score };
    }
  }
}

function atLeast(name: string, value: number, least: number): number {
  if (!(value >= least)) throw new UsmLiteError("INVALID_ARGUMENT", `${name} must be at least ${least}, got ${value}`);
  return value;
}
