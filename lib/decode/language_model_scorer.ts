/**
 * Shallow fusion of a word n-gram with a search over sub-words. A word is scored where it ends; until then its prefix
 * counts as the best word it can still become after the words before it (look-ahead), so that unlikely beginnings leave
 * the beam early. Prefixes of no known word go on under the spelling model.
 */
import type { Tokenizer } from "../text/tokenizer.js";
import { Lexicon } from "./lexicon.js";
import { nativeLanguageScorer, type LanguageScorerHandle } from "./native_prefix_search.js";
import { FIRST_WORD, TEXT_END, type NgramLanguageModel } from "./ngram_language_model.js";
import type { PrefixScorer, PrefixState } from "./prefix_scorer.js";

/** What a language model counts in a beam search; `language_model.json` of a model folder. */
export interface LanguageModelWeights {
  /** Weight of ln P(text) beside the acoustic ln P; default 0.5. */
  readonly alpha?: number;
  /** Added for every word, against the model's liking for few words; default 1. */
  readonly beta?: number;
  /** As in {@link BeamSearchOptions}: what the search that uses these weights takes from ln P of the blank; default 0. */
  readonly blankPenalty?: number;
}

interface LanguageState extends PrefixState {
  /** `alpha` ln P of all closed words, and `beta` for these and the open one. */
  readonly closedScore: number;
  /** Context of the n-gram before the open word. */
  readonly context: number;
  /** Letters of the open word; 0 when none is open. */
  readonly letters: number;
  /** Node of the lexicon, or -1 when no known word begins like the open one. */
  readonly lexiconNode: number;
  readonly spellingState: number;
  /** ln P of the letters of the open word. */
  readonly spelled: number;
  /** What closing the open word gives: computed when first asked for, as many tokens ask. */
  closed?: { readonly score: number; readonly context: number };
}

interface PieceLetters {
  readonly beginsWord: boolean;
  /** Symbols of the spelling model. */
  readonly symbols: readonly number[];
}

const rememberedLookAheads = 100_000;

/**
 * Adds what a language model says to the scores of a beam search (shallow fusion).
 *
 * @example
 * const search = new CtcBeamSearch(tokenizer, { secondsPerFrame: 0.04 }, { scorers: [new LanguageModelScorer(languageModel, tokenizer)] });
 */
export class LanguageModelScorer implements PrefixScorer<LanguageState> {
  private readonly alpha: number;
  private readonly beta: number;
  private readonly pieces: readonly PieceLetters[];
  private readonly lexicon: Lexicon;
  // Look-ahead by context and node of the lexicon: contexts come back, within a text and from text to text.
  private readonly lookAheads = new Map<number, number>();
  private handle: LanguageScorerHandle | undefined;

  constructor(
    private readonly model: NgramLanguageModel,
    tokenizer: Tokenizer,
    weights: LanguageModelWeights = {},
  ) {
    this.alpha = weights.alpha ?? 0.5;
    this.beta = weights.beta ?? 1;
    const { spelling } = model;
    this.pieces = tokenizer.pieces.map((_, id) => {
      const { beginsWord, letters } = tokenizer.spelling(id);
      return { beginsWord, symbols: [...spelling.spell([letters]).symbols] };
    });
    const { words } = model.tree;
    this.lexicon = new Lexicon(
      spelling.spell(words),
      Float32Array.from(words, (_, index) => model.unigramScore(index + FIRST_WORD)),
      spelling.characters.length,
    );
  }

  /** The same scorer for searches in native code, over the same tables. */
  get native(): LanguageScorerHandle {
    if (this.handle) return this.handle;
    const { tree, suffix, firstOfLongest, start, spelling } = this.model;
    const { children, wordAt, bestBelow, firstBelow, endBelow } = this.lexicon.tables;
    const pieceOffsets = new Int32Array(this.pieces.length + 1);
    this.pieces.forEach(({ symbols: letters }, index) => (pieceOffsets[index + 1] = (pieceOffsets[index] as number) + letters.length));
    return (this.handle = nativeLanguageScorer(
      {
        word: tree.word,
        firstChild: tree.firstChild,
        suffix,
        probability: tree.probability,
        backoff: tree.backoff,
        start,
        firstOfLongest,
        spellingScores: spelling.scores,
        spellingFollowing: spelling.following,
        spellingWidth: spelling.width,
        spellingStart: spelling.start,
        endSymbol: spelling.endSymbol,
        lexiconChildren: children,
        lexiconSymbols: this.lexicon.symbols,
        wordAt,
        bestBelow,
        firstBelow,
        endBelow,
        pieceOffsets,
        pieceSymbols: Int32Array.from(this.pieces.flatMap(({ symbols: letters }) => letters)),
        beginsWord: Uint8Array.from(this.pieces, ({ beginsWord }) => Number(beginsWord)),
      },
      this.alpha,
      this.beta,
    ));
  }

  start(): LanguageState {
    return this.betweenWords(0, this.model.start);
  }

  extend(state: LanguageState, id: number): LanguageState {
    const { beginsWord, symbols } = this.pieces[id] as PieceLetters;
    let before = state;
    if (beginsWord && state.letters > 0) {
      const { score, context } = this.close(state);
      before = this.betweenWords(score, context);
    }
    if (symbols.length === 0) return before;
    let { closedScore, lexiconNode, spellingState, spelled } = before;
    if (before.letters === 0) closedScore += this.beta;
    for (const symbol of symbols) {
      if (lexiconNode >= 0) lexiconNode = this.lexicon.next(lexiconNode, symbol);
      spelled += this.model.spelling.score(spellingState, symbol);
      spellingState = this.model.spelling.next(spellingState, symbol);
    }
    const lookAhead = Math.max(this.bestWord(before.context, lexiconNode), this.model.unknownScore + spelled);
    return {
      score: closedScore + this.alpha * lookAhead,
      closedScore,
      context: before.context,
      letters: before.letters + symbols.length,
      lexiconNode,
      spellingState,
      spelled,
    };
  }

  finish(state: LanguageState): number {
    const { score, context } = state.letters > 0 ? this.close(state) : { score: state.closedScore, context: state.context };
    return score + this.alpha * this.model.predict(context, TEXT_END).score;
  }

  /** ln P of the best word that begins like this, after `context`. */
  private bestWord(context: number, lexiconNode: number): number {
    if (lexiconNode < 0) return -Infinity;
    const { bestBelow, firstBelow, endBelow } = this.lexicon.tables;
    const key = context * bestBelow.length + lexiconNode;
    let best = this.lookAheads.get(key);
    if (best === undefined) {
      const [first, end] = [firstBelow[lexiconNode] as number, endBelow[lexiconNode] as number];
      best = this.model.bestScore(context, first + FIRST_WORD, end + FIRST_WORD, bestBelow[lexiconNode] as number);
      if (this.lookAheads.size >= rememberedLookAheads) this.lookAheads.clear();
      this.lookAheads.set(key, best);
    }
    return best;
  }

  private betweenWords(score: number, context: number): LanguageState {
    return {
      score,
      closedScore: score,
      context,
      letters: 0,
      lexiconNode: 0,
      spellingState: this.model.spelling.start,
      spelled: 0,
    };
  }

  private close(state: LanguageState): { score: number; context: number } {
    if (!state.closed) {
      const { spelling } = this.model;
      const word = state.lexiconNode < 0 ? -1 : (this.lexicon.tables.wordAt[state.lexiconNode] as number);
      const { score, context } =
        word >= 0
          ? this.model.predict(state.context, word + FIRST_WORD)
          : this.model.predictUnknown(state.context, state.spelled + spelling.score(state.spellingState, spelling.endSymbol));
      state.closed = { score: state.closedScore + this.alpha * score, context };
    }
    return state.closed;
  }
}
