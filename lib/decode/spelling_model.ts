/**
 * How words are spelled: a character n-gram with Witten-Bell smoothing (Witten and Bell 1991) over a list of distinct
 * words. It gives every string a probability, so words that no text held stay possible.
 */

/** Characters seen at once, the predicted one included. */
const ORDER = 5;

export class SpellingModel {
  /** Characters by symbol; the next symbols are the end of the word and "any other character". */
  readonly characters: readonly string[];
  readonly endSymbol: number;
  readonly otherSymbol: number;
  /** State before the first character. */
  readonly start: number;
  private readonly symbols: ReadonlyMap<string, number>;
  /** Symbols, the last two included. */
  readonly width: number;
  /** (contexts, symbols): ln P(symbol | context). */
  readonly scores: Float32Array;
  /** (contexts, symbols): the context after the symbol. */
  readonly following: Int32Array;

  constructor(words: readonly string[]) {
    const characters = new Set<string>();
    for (const word of words) for (const character of word) characters.add(character);
    this.characters = [...characters].sort();
    this.symbols = new Map(this.characters.map((character, symbol) => [character, symbol]));
    this.endSymbol = this.characters.length;
    this.otherSymbol = this.endSymbol + 1;
    this.width = this.endSymbol + 2;

    const contexts = new Contexts(this.spelled(words), this.endSymbol);
    this.start = contexts.start;
    const probabilities = contexts.occurrences(this.width);
    this.following = new Int32Array(probabilities.length);
    contexts.forEach((id, shorter, longer) => {
      this.smooth(probabilities, id, shorter);
      const row = id * this.width;
      for (let symbol = 0; symbol < this.endSymbol; symbol++) {
        // From the empty context a character that begins none leads back to it.
        const without = shorter < 0 ? id : (this.following[shorter * this.width + symbol] as number);
        this.following[row + symbol] = (longer[symbol] as number) || without;
      }
    });
    this.scores = new Float32Array(probabilities.length);
    for (let index = 0; index < probabilities.length; index++) this.scores[index] = Math.log(probabilities[index] as number);
  }

  /** {@link SpellingModel.otherSymbol} for a character that no word has. */
  symbolOf(character: string): number {
    return this.symbols.get(character) ?? this.otherSymbol;
  }

  symbolsOf(text: string): number[] {
    const symbols: number[] = [];
    for (const character of text) symbols.push(this.symbolOf(character));
    return symbols;
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
    for (const character of word) {
      const symbol = this.symbolOf(character);
      score += this.score(state, symbol);
      state = this.next(state, symbol);
    }
    return score + this.score(state, this.endSymbol);
  }

  /** The symbols of all words, one after the other, each with its end. */
  private spelled(words: readonly string[]): Int32Array {
    const symbols = new Int32Array(words.reduce((length, word) => length + word.length + 1, 0));
    let length = 0;
    for (const word of words) {
      for (const character of word) symbols[length++] = this.symbolOf(character);
      symbols[length++] = this.endSymbol;
    }
    return symbols.subarray(0, length); // characters of two code units are one symbol
  }

  // Turns counts into P(s | context) = (count(s) + types * P(s | shorter context)) / (total + types).
  private smooth(probabilities: Float64Array, id: number, shorter: number): void {
    const { width } = this;
    const row = probabilities.subarray(id * width, (id + 1) * width);
    let types = 0;
    let total = 0;
    for (let symbol = 0; symbol < width; symbol++) {
      const count = row[symbol] as number;
      total += count;
      if (count > 0) types++;
    }
    if (total === 0) types = 1; // no words at all: uniform
    for (let symbol = 0; symbol < width; symbol++) {
      const base = shorter < 0 ? 1 / width : (probabilities[shorter * width + symbol] as number);
      row[symbol] = ((row[symbol] as number) + types * base) / (total + types);
    }
  }
}

/**
 * All rows of up to ORDER - 1 symbols that precede a symbol in some word, the beginning of the word counted as one of
 * them. Shorter ones have the lower ids; the empty one is 0.
 */
class Contexts {
  count = 1;
  /** Each context without its first symbol. */
  private readonly shorter: number[] = [-1];
  /** By length, the id of the first context. */
  private readonly first: number[] = [0];
  /** By length, (contexts, characters): the context with one more symbol, or 0. */
  private readonly longer: Int32Array[] = [];
  /** By length, (symbols of the words): the context before each symbol, or -1 where fewer symbols precede. */
  private readonly before: Int32Array[];

  /** @param symbols of all words, one after the other, each with its end */
  constructor(
    private readonly symbols: Int32Array,
    private readonly endSymbol: number,
  ) {
    this.before = [new Int32Array(symbols.length)];
    for (let length = 1; length < ORDER; length++) this.extend(length);
  }

  /** The context that is the beginning of a word alone, which is the first that a symbol has; without words the empty one. */
  get start(): number {
    return this.symbols.length > 0 ? 1 : 0;
  }

  /** Finds the contexts of `length`: what precedes a symbol is what precedes the symbol before it, and that symbol. */
  private extend(length: number): void {
    const { symbols, endSymbol } = this;
    const shorter = this.before[length - 1] as Int32Array;
    const before = new Int32Array(symbols.length).fill(-1);
    const first = this.first[length - 1] as number;
    const longer = new Int32Array((this.count - first) * endSymbol);
    this.first.push(this.count);
    for (let position = 0; position < symbols.length; position++) {
      const last = position === 0 ? endSymbol : (symbols[position - 1] as number);
      const without = shorter[position] as number;
      if (last === endSymbol) {
        if (length === 1) before[position] = position === 0 ? this.add(without) : (before[0] as number);
        continue;
      }
      const context = shorter[position - 1] as number;
      if (context < 0) continue;
      const place = (context - first) * endSymbol + last;
      if (longer[place] === 0) longer[place] = this.add(without);
      before[position] = longer[place] as number;
    }
    this.longer.push(longer);
    this.before.push(before);
  }

  private add(shorter: number): number {
    this.shorter.push(shorter);
    return this.count++;
  }

  /** (contexts, width): how often each symbol follows each context. */
  occurrences(width: number): Float64Array {
    const counts = new Float64Array(this.count * width);
    for (const before of this.before) {
      for (let position = 0; position < before.length; position++) {
        const context = before[position] as number;
        if (context < 0) continue;
        const place = context * width + (this.symbols[position] as number);
        counts[place] = (counts[place] as number) + 1;
      }
    }
    return counts;
  }

  /**
   * Each context with the one that lacks its first symbol (-1 for the empty one), shorter ones first.
   * @param longer with which symbols that are characters it is a context too: their ids, or 0
   */
  forEach(visit: (id: number, shorter: number, longer: Int32Array) => void): void {
    const none = new Int32Array(this.endSymbol);
    this.first.forEach((first, length) => {
      const end = this.first[length + 1] ?? this.count;
      const longer = this.longer[length];
      for (let id = first; id < end; id++) {
        const row = (id - first) * this.endSymbol;
        visit(id, this.shorter[id] as number, longer ? longer.subarray(row, row + this.endSymbol) : none);
      }
    });
  }
}
