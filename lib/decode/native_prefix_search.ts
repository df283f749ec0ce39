/** CTC prefix beam search in C++ (native/decode), the n-gram that it asks included. */
import { addon } from "../native/addon.js";
import type { Tokenizer } from "../text/tokenizer.js";
import type { LogProbabilities } from "./hypothesis.js";
import { allowedTokens, type PrefixSearch, type PrefixSearchLimits, type RankedPrefix } from "./prefix_search.js";

/** The native form of a {@link LanguageModelScorer}. */
export interface LanguageScorerHandle {
  readonly released: boolean;
}

interface PrefixSearchHandle {
  readonly released: boolean;
}

/** What a {@link LanguageModelScorer} looks up; the native scorer reads the same memory. */
export interface LanguageTables {
  readonly word: Int32Array;
  readonly firstChild: Int32Array;
  readonly suffix: Int32Array;
  readonly probability: Uint8Array;
  readonly backoff: Uint8Array;
  readonly start: number;
  readonly firstOfLongest: number;
  readonly spellingScores: Float32Array;
  readonly spellingFollowing: Int32Array;
  readonly spellingWidth: number;
  readonly spellingStart: number;
  readonly endSymbol: number;
  readonly lexiconChildren: Int32Array;
  readonly lexiconSymbols: number;
  readonly wordAt: Int32Array;
  readonly bestBelow: Float32Array;
  readonly firstBelow: Int32Array;
  readonly endBelow: Int32Array;
  readonly pieceOffsets: Int32Array;
  readonly pieceSymbols: Int32Array;
  readonly beginsWord: Uint8Array;
}

/** All of the beam, best first. */
interface RankedPrefixes {
  readonly totals: Float64Array;
  readonly scores: Float64Array;
  /** The tokens of sequence i are [ends[i - 1], ends[i]) of what follows. */
  readonly ends: Int32Array;
  readonly ids: Int32Array;
  readonly firstFrames: Int32Array;
  readonly endFrames: Int32Array;
  readonly peaks: Float64Array;
}

interface PrefixSearchBindings {
  languageScorerCreate(tables: LanguageTables, alpha: number, beta: number): LanguageScorerHandle;
  prefixSearchCreate(
    tokens: number,
    blank: number,
    allowed: Int32Array,
    beamWidth: number,
    beamThreshold: number,
    tokenThreshold: number,
    maximumTokens: number,
    blankPenalty: number,
    scorer?: LanguageScorerHandle,
  ): PrefixSearchHandle;
  prefixSearchesAdvance(searches: readonly PrefixSearchHandle[], values: readonly Float32Array[]): void;
  prefixSearchRanked(search: PrefixSearchHandle): RankedPrefixes;
  prefixSearchSettled(search: PrefixSearchHandle): Int32Array;
  prefixSearchSettleBefore(search: PrefixSearchHandle, frame: number): void;
}

const native = addon as PrefixSearchBindings;

/** @throws UsmLiteError INVALID_ARGUMENT where a table points outside another */
export const nativeLanguageScorer = (tables: LanguageTables, alpha: number, beta: number): LanguageScorerHandle =>
  native.languageScorerCreate(tables, alpha, beta);

export class NativePrefixSearch implements PrefixSearch {
  private readonly handle: PrefixSearchHandle;

  /** @param scorer absent: the acoustic score alone */
  constructor(tokenizer: Tokenizer, limits: PrefixSearchLimits, scorer?: LanguageScorerHandle) {
    const { beamWidth, beamThreshold, tokenThreshold, maximumTokens, blankPenalty } = limits;
    const allowed = Int32Array.from(allowedTokens(tokenizer));
    const numbers = [beamWidth, beamThreshold, tokenThreshold, maximumTokens, blankPenalty] as const;
    this.handle = native.prefixSearchCreate(tokenizer.size, tokenizer.blankId, allowed, ...numbers, scorer);
  }

  advance(input: LogProbabilities): void {
    NativePrefixSearch.advanceTogether([this], [input]);
  }

  /** Several searches, each over its own input, on all threads. */
  static advanceTogether(searches: readonly NativePrefixSearch[], inputs: readonly LogProbabilities[]): void {
    native.prefixSearchesAdvance(
      searches.map(({ handle }) => handle),
      inputs.map(({ values }) => values),
    );
  }

  ranked(): RankedPrefix[] {
    const { totals, scores, ends, ids, firstFrames, endFrames, peaks } = native.prefixSearchRanked(this.handle);
    return Array.from(ends, (end, index) => {
      const begin = index === 0 ? 0 : (ends[index - 1] as number);
      return {
        total: totals[index] as number,
        score: scores[index] as number,
        ids: ids.subarray(begin, end),
        firstFrames: firstFrames.subarray(begin, end),
        endFrames: endFrames.subarray(begin, end),
        peaks: peaks.subarray(begin, end),
      };
    });
  }

  settled(): Int32Array {
    return native.prefixSearchSettled(this.handle);
  }

  settleBefore(frame: number): void {
    native.prefixSearchSettleBefore(this.handle, frame);
  }
}
