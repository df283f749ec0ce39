/** Tables of a language model that C++ makes when one is read (native/decode/language_tables.hpp). */
import { addon } from "../native/addon.js";

/** Words as symbols, one after the other. */
export interface SpelledWords {
  readonly symbols: Int32Array;
  /** Where each word begins, and one more entry: where the last one ends. */
  readonly offsets: Int32Array;
}

/** Of a character n-gram whose symbols are the characters, the end of a word and "any other character". */
export interface SpellingTables {
  /** (contexts, symbols): ln P(symbol | context). */
  readonly scores: Float32Array;
  /** (contexts, symbols): the context after the symbol. */
  readonly following: Int32Array;
  /** The context before the first character. */
  readonly start: number;
}

/** Of words as a tree of symbols. */
export interface LexiconTables {
  /** (nodes, symbols): child, or -1. */
  readonly children: Int32Array;
  /** Word at each node, or -1. */
  readonly wordAt: Int32Array;
  /** Highest score of any word at or below each node. */
  readonly bestBelow: Float32Array;
  /** The words at or below each node are [firstBelow, endBelow). */
  readonly firstBelow: Int32Array;
  readonly endBelow: Int32Array;
}

interface LanguageTableBindings {
  ngramSuffixes(word: Int32Array, firstChild: Int32Array): Int32Array | undefined;
  spellingTables(symbols: Int32Array, offsets: Int32Array, characters: number): SpellingTables;
  lexiconTables(symbols: Int32Array, offsets: Int32Array, scores: Float32Array, width: number): LexiconTables;
}

const native = addon as LanguageTableBindings;

/** By node, the node of the same n-gram without its first word; undefined where one lacks it. */
export const ngramSuffixes = (word: Int32Array, firstChild: Int32Array): Int32Array | undefined => native.ngramSuffixes(word, firstChild);

export const spellingTables = ({ symbols, offsets }: SpelledWords, characters: number): SpellingTables =>
  native.spellingTables(symbols, offsets, characters);

export const lexiconTables = ({ symbols, offsets }: SpelledWords, scores: Float32Array, width: number): LexiconTables =>
  native.lexiconTables(symbols, offsets, scores, width);
