/**
 * How words are spelled: a character n-gram with Witten-Bell smoothing (Witten and Bell 1991) over a list of distinct
 * words. It gives every string a probability, so words that no text held stay possible.
 */

/** Characters seen at once, the predicted one included. */
const ORDER = 5;
const START = "\u0002";
const END = "\u0003";

export class SpellingModel {
  /** Characters by symbol; the last symbols are the end of the word and "any other character". */
  readonly characters: readonly string[];
  readonly endSymbol: number;
  readonly otherSymbol: number;
  /** State before the first character. */
  readonly start: number;
  private readonly symbols: ReadonlyMap<string, number>;
  private readonly width: number;
  // (contexts, symbols): ln P(symbol | context), and the context after the symbol.
  private readonly scores: Float32Array;
  private readonly following: Int32Array;

  constructor(words: Iterable<string>) {
    const { contexts, characters } = countContexts(words);
    this.characters = characters;
    this.symbols = new Map(characters.map((character, symbol) => [character, symbol]));
    this.endSymbol = characters.length;
    this.otherSymbol = characters.length + 1;
    this.width = characters.length + 2;
    // Short contexts first: each is smoothed with the one that lacks its first character.
    const ordered = [...contexts].sort(([a], [b]) => a.length - b.length || (a < b ? -1 : 1));
    const ids = new Map(ordered.map(([context], id) => [context, id]));
    this.start = ids.get(START) ?? 0;
    this.scores = new Float32Array(ordered.length * this.width);
    this.following = new Int32Array(ordered.length * this.width);
    ordered.forEach(([context, counts], id) => {
      const shorter = context === "" ? -1 : (ids.get(context.slice(1)) as number);
      this.fillScores(id, shorter, counts);
      characters.forEach((character, symbol) => {
        const longer = context.length === ORDER - 1 ? undefined : ids.get(context + character);
        // From the empty context an unknown character leads back to it.
        const next = longer ?? (shorter < 0 ? id : (this.following[shorter * this.width + symbol] as number));
        this.following[id * this.width + symbol] = next;
      });
    });
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

  // P(s | context) = (count(s) + types * P(s | shorter context)) / (total + types)
  private fillScores(id: number, shorter: number, counts: ReadonlyMap<string, number>): void {
    const types = counts.size;
    const total = [...counts.values()].reduce((sum, count) => sum + count, 0);
    const countOf = (symbol: number): number =>
      counts.get(symbol === this.endSymbol ? END : (this.characters[symbol] ?? "")) ?? 0;
    for (let symbol = 0; symbol < this.width; symbol++) {
      const base = shorter < 0 ? 1 / this.width : Math.exp(this.score(shorter, symbol));
      // No words at all: uniform.
      const probability = total === 0 ? base : (countOf(symbol) + types * base) / (total + types);
      this.scores[id * this.width + symbol] = Math.log(probability);
    }
  }
}

function countContexts(words: Iterable<string>) {
  const contexts = new Map<string, Map<string, number>>([["", new Map()]]);
  const seen = new Set<string>();
  for (const word of words) {
    const characters = [START, ...word, END];
    for (const character of word) seen.add(character);
    for (let position = 1; position < characters.length; position++) {
      const symbol = characters[position] as string;
      for (let length = 0; length < ORDER && length <= position; length++) {
        const context = characters.slice(position - length, position).join("");
        let counts = contexts.get(context);
        if (!counts) contexts.set(context, (counts = new Map()));
        counts.set(symbol, (counts.get(symbol) ?? 0) + 1);
      }
    }
  }
  return { contexts, characters: [...seen].sort() };
}
