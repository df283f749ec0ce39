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

    const spelled = words.map((word) => {
      const symbols: number[] = [];
      for (const character of word) symbols.push(this.symbolOf(character));
      symbols.push(this.endSymbol);
      return symbols;
    });
    const contexts = new Contexts(spelled, this.width);
    this.start = contexts.idOf(1, Contexts.START) ?? 0;
    const probabilities = new Float64Array(contexts.count * this.width);
    this.following = new Int32Array(contexts.count * this.width);
    contexts.forEachSymbol(
      (id, symbol) => (probabilities[id * this.width + symbol] = (probabilities[id * this.width + symbol] as number) + 1),
    );
    contexts.forEach((id, shorter, longer) => {
      this.smooth(probabilities, id, shorter);
      for (let symbol = 0; symbol < this.endSymbol; symbol++) {
        // From the empty context a character that begins none leads back to it.
        const next = longer(symbol) ?? (shorter < 0 ? id : (this.following[shorter * this.width + symbol] as number));
        this.following[id * this.width + symbol] = next;
      }
    });
    this.scores = new Float32Array(probabilities.length);
    for (let index = 0; index < probabilities.length; index++) this.scores[index] = Math.log(probabilities[index] as number);
  }

  /** {@link SpellingModel.otherSymbol} for a character that no word has. */
  symbolOf(character: string): number {
    return this.symbols.get(character) ?? this.otherSymbol;
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

/** Ids of keys below a limit that may be large. */
interface KeyIds {
  get(key: number): number | undefined;
  set(key: number, id: number): void;
  forEach(visit: (id: number, key: number) => void): void;
}

/** One place for each key: many times faster than a hash table, where there is room. */
class DenseKeyIds implements KeyIds {
  // 0: none; ids count from 1 here.
  private readonly ids: Int32Array;

  constructor(limit: number) {
    this.ids = new Int32Array(limit);
  }

  get(key: number): number | undefined {
    const id = this.ids[key] as number;
    return id === 0 ? undefined : id - 1;
  }

  set(key: number, id: number): void {
    this.ids[key] = id + 1;
  }

  forEach(visit: (id: number, key: number) => void): void {
    this.ids.forEach((id, key) => {
      if (id > 0) visit(id - 1, key);
    });
  }
}

const mostDenseKeys = 2 ** 22;

/**
 * All rows of up to ORDER - 1 symbols that precede a symbol in some word, shorter ones first. Each is a number: its
 * symbols, from 2, and the beginning of the word, 1, are the digits.
 */
class Contexts {
  static readonly START = 1;
  count = 0;
  private readonly ids: KeyIds[] = [];
  private readonly radix: number;

  constructor(
    private readonly words: readonly (readonly number[])[],
    width: number,
  ) {
    this.radix = width + 2;
    for (let length = 0; length < ORDER; length++) {
      const limit = this.radix ** length;
      const ids: KeyIds = limit <= mostDenseKeys ? new DenseKeyIds(limit) : new Map<number, number>();
      this.ids.push(ids);
      this.forEachKey(length, (key) => {
        if (ids.get(key) === undefined) ids.set(key, this.count++);
      });
    }
    if (this.count === 0) this.ids[0]?.set(0, this.count++);
  }

  idOf(length: number, key: number): number | undefined {
    return this.ids[length]?.get(key);
  }

  /** Every symbol of every word with each of its contexts. */
  forEachSymbol(visit: (id: number, symbol: number) => void): void {
    this.ids.forEach((ids, length) => this.forEachKey(length, (key, symbol) => visit(ids.get(key) as number, symbol)));
  }

  /** Each context with the one that lacks its first symbol (-1 for the empty one) and those with one more symbol. */
  forEach(visit: (id: number, shorter: number, longer: (symbol: number) => number | undefined) => void): void {
    this.ids.forEach((ids, length) => {
      const highest = this.radix ** (length - 1);
      ids.forEach((id, key) => {
        const shorter = length === 0 ? -1 : (this.ids[length - 1]?.get(key % highest) as number);
        visit(id, shorter, (symbol) => this.ids[length + 1]?.get(key * this.radix + symbol + 2));
      });
    });
  }

  private forEachKey(length: number, visit: (key: number, symbol: number) => void): void {
    const limit = this.radix ** length;
    const longest = this.radix ** (ORDER - 1);
    for (const word of this.words) {
      let key = Contexts.START;
      for (let position = 0; position < word.length; position++) {
        const symbol = word[position] as number;
        // The beginning of the word is a symbol of its context, so `position + 1` symbols precede.
        if (length <= position + 1) visit(key % limit, symbol);
        key = (key * this.radix + symbol + 2) % longest;
      }
    }
  }
}
