/** The words of a language model as a tree of characters, each node knowing which words are below it. */
import { lexiconTables, type LexiconTables, type SpelledWords } from "./native_language_tables.js";

export class Lexicon {
  readonly tables: LexiconTables;

  /**
   * @param words distinct, of symbols from 0 to `symbols` - 1, those with the same beginning side by side
   * @param scores of each word
   */
  constructor(
    words: SpelledWords,
    scores: Float32Array,
    readonly symbols: number,
  ) {
    this.tables = lexiconTables(words, scores, symbols);
  }

  /** The node after one more symbol; -1 when no word goes on like this. Node 0 is the root. */
  next(node: number, symbol: number): number {
    return symbol < this.symbols ? (this.tables.children[node * this.symbols + symbol] as number) : -1;
  }
}
