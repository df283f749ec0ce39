/**
 * Word n-gram language models with back-off, over words of normalized text. Below the unigrams lies a model of spelling,
 * so every word has a probability. Trained by {@link trainLanguageModel}, stored in a file of its own (docs/format.md).
 */
import { UsmLiteError } from "../errors.js";
import { ngramSuffixes } from "./native_language_tables.js";
import { SpellingModel } from "./spelling_model.js";

/** Word id of the beginning of a text: only ever a context. */
export const TEXT_BEGIN = 0;
/** Word id of the end of a text: only ever predicted. */
export const TEXT_END = 1;
/** Ids below this are not words. */
export const FIRST_WORD = 2;

/** Logarithms are stored in one byte: minus code / 16 nats. */
export const CODES_PER_NAT = 16;

/** A tree of n-grams in breadth-first order: node 0 is the empty one, then all unigrams by word id, and so on. */
export interface NgramTree {
  /** Longest n-gram. */
  readonly order: number;
  /** Words in the order of their ids, which begin at {@link FIRST_WORD}; ascending by code unit. */
  readonly words: readonly string[];
  /** Last word of each node; ascending among the children of one node. */
  readonly word: Int32Array;
  /** First child of each node, and one more entry: the children of `node` are [first[node], first[node + 1]). */
  readonly firstChild: Int32Array;
  /** Code of P(last word | words before). */
  readonly probability: Uint8Array;
  /** Code of the share that each context leaves to words it was not seen with. */
  readonly backoff: Uint8Array;
}

/** What a word costs and where it leads. */
export interface Prediction {
  /** ln P(word | context). */
  readonly score: number;
  /** The context after the word. */
  readonly context: number;
}

/**
 * Probabilities of words after the words before them, and, through a spelling model, of words that it does not know.
 *
 * @example
 * const languageModel = trainLanguageModel(["THE CAT SAT", "THE DOG SAT"], { order: 3 });
 * writeLanguageModel("model/language_model.bin", languageModel);
 */
export class NgramLanguageModel {
  private spellingModel: SpellingModel | undefined;
  /** The context at the beginning of a text. */
  readonly start: number;
  /** The node of the same n-gram without its first word. */
  readonly suffix: Int32Array;
  /** The first of the longest n-grams, which are no contexts. */
  readonly firstOfLongest: number;

  constructor(readonly tree: NgramTree) {
    this.start = 1 + TEXT_BEGIN;
    const suffix = ngramSuffixes(tree.word, tree.firstChild);
    if (!suffix) throw new UsmLiteError("BAD_LANGUAGE_MODEL", "the language model holds an n-gram without its own suffix");
    this.suffix = suffix;
    let begin = 0;
    for (let length = 0, end = 1; length < tree.order; length++) [begin, end] = [end, tree.firstChild[end] as number];
    this.firstOfLongest = begin;
  }

  /** Made when it is first asked for, as not all who load a language model search with it. */
  get spelling(): SpellingModel {
    return (this.spellingModel ??= new SpellingModel(this.tree.words));
  }

  /** Number of words, without the beginning and end of texts. */
  get vocabularySize(): number {
    return this.tree.words.length;
  }

  /** Undefined for a word that the training text lacked. */
  wordId(word: string): number | undefined {
    const { words } = this.tree;
    let low = 0;
    let high = words.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((words[middle] as string) < word) low = middle + 1;
      else high = middle;
    }
    return words[low] === word ? low + FIRST_WORD : undefined;
  }

  /** ln P(word) without context. */
  unigramScore(id: number): number {
    return -(this.tree.probability[1 + id] as number) / CODES_PER_NAT;
  }

  /** ln of the share of all unknown words together, in the empty context. */
  get unknownScore(): number {
    return -(this.tree.backoff[0] as number) / CODES_PER_NAT;
  }

  /** A known word or {@link TEXT_END} after `context`. */
  predict(context: number, id: number): Prediction {
    let score = 0;
    for (let node = context; ; node = this.suffix[node] as number) {
      const child = this.childOf(node, id);
      if (child >= 0) {
        return {
          score: score - (this.tree.probability[child] as number) / CODES_PER_NAT,
          context: child >= this.firstOfLongest ? (this.suffix[child] as number) : child,
        };
      }
      score -= (this.tree.backoff[node] as number) / CODES_PER_NAT;
    }
  }

  /**
   * The most that {@link NgramLanguageModel.predict} gives any word with an id in [first, end), or a little more: a word
   * may count by a shorter context although a longer one, which knows it, gives less.
   * @param unigram the highest unigram score of these words
   */
  bestScore(context: number, first: number, end: number, unigram: number): number {
    const { word, firstChild, probability, backoff } = this.tree;
    let best = -Infinity;
    let score = 0;
    for (let node = context; node !== 0; node = this.suffix[node] as number) {
      const last = firstChild[node + 1] as number;
      let code = Infinity;
      for (let child = this.lowerBound(firstChild[node] as number, last, first); child < last && (word[child] as number) < end; child++) {
        code = Math.min(code, probability[child] as number);
      }
      best = Math.max(best, score - code / CODES_PER_NAT);
      score -= (backoff[node] as number) / CODES_PER_NAT;
    }
    return Math.max(best, score + unigram);
  }

  /** A word that the training text lacked; `spelling` is ln P of its letters and its end. */
  predictUnknown(context: number, spelling: number): Prediction {
    let score = spelling;
    for (let node = context; ; node = this.suffix[node] as number) {
      score -= (this.tree.backoff[node] as number) / CODES_PER_NAT;
      if (node === 0) return { score, context: 0 };
    }
  }

  /** ln P of a whole normalized text, its end included; words are separated by single spaces. */
  textScore(text: string): number {
    let score = 0;
    let context = this.start;
    for (const word of text.split(" ")) {
      if (word === "") continue;
      const id = this.wordId(word);
      const prediction = id === undefined ? this.predictUnknown(context, this.spelling.wordScore(word)) : this.predict(context, id);
      score += prediction.score;
      context = prediction.context;
    }
    return score + this.predict(context, TEXT_END).score;
  }

  private childOf(node: number, id: number): number {
    if (node === 0) return 1 + id;
    const end = this.tree.firstChild[node + 1] as number;
    const child = this.lowerBound(this.tree.firstChild[node] as number, end, id);
    return child < end && this.tree.word[child] === id ? child : -1;
  }

  /** The first of the children [low, high) of a node whose word is `id` or a later one; `high` when there is none. */
  private lowerBound(low: number, high: number, id: number): number {
    const { word } = this.tree;
    while (low < high) {
      const middle = (low + high) >> 1;
      if ((word[middle] as number) < id) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
