/**
 * The portable reference of CTC prefix beam search: plain TypeScript, with whatever scorers. What {@link NativePrefixSearch}
 * computes faster.
 */
import { UsmLiteError } from "../errors.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { LogProbabilities } from "./hypothesis.js";
import { logAdd } from "./log_probabilities.js";
import { PathSum, Prefix, type Alignment } from "./prefix.js";
import type { PrefixScorer } from "./prefix_scorer.js";
import { allowedTokens, type PrefixSearch, type PrefixSearchLimits, type RankedPrefix } from "./prefix_search.js";

// Scorers are not asked about a token when the sequence would not survive even if they added this many nats.
const SCORER_HEADROOM = 6;

const unscored: PrefixScorer = { start: () => ({ score: 0 }), extend: (state) => state, finish: () => 0 };

export class ReferencePrefixSearch implements PrefixSearch {
  private readonly scorer: PrefixScorer;
  private readonly headroom: number;
  private readonly allowed: readonly number[];
  private beam: Prefix[];
  private settledPrefix: Prefix;
  private frame = 0;

  /** @param scorer absent: the acoustic score alone */
  constructor(
    private readonly tokenizer: Tokenizer,
    private readonly limits: PrefixSearchLimits,
    scorer?: PrefixScorer,
  ) {
    this.scorer = scorer ?? unscored;
    this.headroom = scorer ? SCORER_HEADROOM : 0;
    this.allowed = allowedTokens(tokenizer);
    this.settledPrefix = Prefix.empty(tokenizer.blankId, this.scorer.start());
    this.beam = [this.settledPrefix];
  }

  advance({ values, frames, tokens }: LogProbabilities): void {
    for (let row = 0; row < frames; row++) {
      const frame = values.slice(row * tokens, (row + 1) * tokens);
      frame[this.tokenizer.blankId] = (frame[this.tokenizer.blankId] as number) - this.limits.blankPenalty;
      this.step(frame);
    }
  }

  ranked(): RankedPrefix[] {
    return this.beam
      .map((prefix): RankedPrefix => {
        const { ids, alignments } = prefix.path();
        const { total } = prefix;
        return {
          total,
          score: total + this.scorer.finish(prefix.state),
          ids,
          firstFrames: alignments.map(({ firstFrame }) => firstFrame),
          endFrames: alignments.map(({ endFrame }) => endFrame),
          peaks: alignments.map(({ peak }) => peak),
        };
      })
      .sort((a, b) => b.score - a.score);
  }

  settled(): number[] {
    this.settledPrefix = this.settledPrefix.settled();
    const ids: number[] = [];
    for (let prefix = this.settledPrefix; prefix.parent; prefix = prefix.parent) ids.push(prefix.id);
    return ids.reverse();
  }

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
    const least = candidates.reduce((best, { score }) => Math.max(best, score), -Infinity) - this.limits.beamThreshold;
    const survivors = candidates.filter(({ score }) => score >= least);
    if (survivors.length === 0) throw new UsmLiteError("INVALID_ARGUMENT", `the log-probabilities of frame ${this.frame} are not numbers`);
    survivors.sort((a, b) => b.score - a.score);
    survivors.length = Math.min(survivors.length, this.limits.beamWidth);
    const kept = new Set(survivors);
    for (const prefix of survivors) if (!prefix.active) prefix.activate();
    for (const prefix of this.beam) if (!kept.has(prefix)) prefix.deactivate();
    this.beam = survivors;
    this.frame++;
  }

  /** A score that every survivor of this frame will reach, as the sequences that stay as they are already do. */
  private floor(): number {
    const scores = this.beam.map(
      ({ nextEndingInBlank, nextEndingInToken, state }) => logAdd(nextEndingInBlank.total, nextEndingInToken.total) + state.score,
    );
    scores.sort((a, b) => b - a);
    return Math.max((scores[0] as number) - this.limits.beamThreshold, scores[this.limits.beamWidth - 1] ?? -Infinity);
  }

  /** Tokens worth trying: within the threshold of the best of the frame, and not too many. */
  private tokensOf(row: Float32Array): number[] {
    let highest = row[this.tokenizer.blankId] as number;
    for (const id of this.allowed) if ((row[id] as number) > highest) highest = row[id] as number;
    const least = highest - this.limits.tokenThreshold;
    const tokens = this.allowed.filter((id) => (row[id] as number) >= least);
    if (tokens.length <= this.limits.maximumTokens) return tokens;
    return tokens.sort((a, b) => (row[b] as number) - (row[a] as number)).slice(0, this.limits.maximumTokens);
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
