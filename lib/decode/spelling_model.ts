/**
 * How words are spelled: a character n-gram with Witten-Bell smoothing (Witten and Bell 1991) over a list of distinct
 * words. It gives every string a probability, so words that no text held stay possible.
 */
import { spellingTables, type SpelledWords } from "./native_language_tables.js";

export class SpellingModel {
  /** Characters by symbol; the next symbols are the end of the word and "any other character". */
  readonly characters: readonly string[];
  readonly endSymbol: number;
  readonly otherSymbol: number;
  /** State before the first character. */
  readonly start: number;
  /** By code point. */
  private readonly symbols: ReadonlyMap<number, number>;
  /** Symbols, the last two included. */
  readonly width: number;
  /** (contexts, symbols): ln P(symbol | context). */
  readonly scores: Float32Array;
  /** (contexts, symbols): the context after the symbol. */
  readonly following: Int32Array;

  constructor(words: readonly string[]) {
    const codePoints = new Set<number>();
    for (const word of words) eachCodePoint(word, (codePoint) => codePoints.add(codePoint));
    this.characters = [...codePoints].map((codePoint) => String.fromCodePoint(codePoint)).sort();
    this.symbols = new Map(this.characters.map((character, symbol) => [character.codePointAt(0) as number, symbol]));
    this.endSymbol = this.characters.length;
    this.otherSymbol = this.endSymbol + 1;
    this.width = this.endSymbol + 2;

    ({ scores: this.scores, following: this.following, start: this.start } = spellingTables(this.spell(words), this.characters.length));
  }

  /** {@link SpellingModel.otherSymbol} for a character that no word has. */
  symbolOf(character: string): number {
    return this.symbols.get(character.codePointAt(0) as number) ?? this.otherSymbol;
  }

  spell(words: readonly string[]): SpelledWords {
    const symbols = new Int32Array(words.reduce((length, word) => length + word.length, 0));
    const offsets = new Int32Array(words.length + 1);
    let length = 0;
    words.forEach((word, index) => {
      eachCodePoint(word, (codePoint) => (symbols[length++] = this.symbols.get(codePoint) ?? this.otherSymbol));
      offsets[index + 1] = length;
    });
    return { symbols: symbols.subarray(0, length), offsets }; // characters of two code units are one symbol
  }

  /** ln P(symbol | the characters that led to `state`). */
  score(state: number, symbol: number): number {
    return this.scores[state * this.width + symbol] as number;
  }

  next(state: number, symbol: number): number {
    return this.following[state * this.width + symbol] as number;
  }

  /** ln P(word), its end included. */
  wordScore(word: string): number {
    let state = this.start;
    let score = 0;
    for (const symbol of this.spell([word]).symbols) {
      score += this.score(state, symbol);
      state = this.next(state, symbol);
    }
    return score + this.score(state, this.endSymbol);
  }
}

function eachCodePoint(text: string, visit: (codePoint: number) => void): void {
  for (let place = 0; place < text.length; place++) {
    const codePoint = text.codePointAt(place) as number;
    if (codePoint > 0xffff) place++;
    visit(codePoint);
  }
}
