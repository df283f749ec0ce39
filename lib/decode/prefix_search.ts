/** What a CTC beam search does with token sequences; text is made of them in {@link CtcBeamSearch}. */
import type { Tokenizer } from "../text/tokenizer.js";
import type { LogProbabilities } from "./hypothesis.js";

/** As in {@link BeamSearchOptions}, all given. */
export interface PrefixSearchLimits {
  readonly beamWidth: number;
  readonly beamThreshold: number;
  readonly tokenThreshold: number;
  readonly maximumTokens: number;
  readonly blankPenalty: number;
}

/** A sequence of the beam, if the utterance ended here. */
export interface RankedPrefix {
  /** ln P of all its alignments within the beam. */
  readonly total: number;
  /** `total` plus what the scorers add. */
  readonly score: number;
  readonly ids: ArrayLike<number>;
  /** In step with `ids`: frames [first, end) that emit each token on the best alignment, and its highest ln P there. */
  readonly firstFrames: ArrayLike<number>;
  readonly endFrames: ArrayLike<number>;
  readonly peaks: ArrayLike<number>;
}

export interface PrefixSearch {
  /** @throws UsmLiteError INVALID_ARGUMENT when the values are not numbers */
  advance(input: LogProbabilities): void;
  /** All of the beam, best first. */
  ranked(): RankedPrefix[];
  /** What everything in the beam begins with. */
  settled(): ArrayLike<number>;
  /**
   * Decides for what the best sequence says before `frame`: sequences that say otherwise leave the beam (fixed-lag
   * decoding, the forced decision of truncated Viterbi searches).
   */
  settleBefore(frame: number): void;
}

/** Tokens that are ever said, ascending. */
export function allowedTokens(tokenizer: Tokenizer): number[] {
  return tokenizer.pieces.flatMap((_, id) => (tokenizer.isSpecial(id) ? [] : [id]));
}
