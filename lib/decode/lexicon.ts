/** The words of a language model as a tree of characters, each node knowing the best word below it. */

export class Lexicon {
  /** Word at each node, or -1. */
  readonly wordAt: Int32Array;
  /** Highest score of any word at or below each node. */
  readonly bestBelow: Float32Array;
  // (nodes, symbols): child, or -1
  private readonly children: Int32Array;

  /**
   * @param words distinct words as symbols from 0 to `symbols` - 1
   * @param scores of each word
   */
  constructor(
    words: readonly (readonly number[])[],
    scores: ArrayLike<number>,
    private readonly symbols: number,
  ) {
    const nodes = 1 + words.reduce((sum, word) => sum + word.length, 0); // at most
    const children = new Int32Array(nodes * symbols).fill(-1);
    this.wordAt = new Int32Array(nodes).fill(-1);
    this.bestBelow = new Float32Array(nodes).fill(-Infinity);
    let count = 1;
    words.forEach((word, index) => {
      let node = 0;
      const score = scores[index] as number;
      this.bestBelow[0] = Math.max(this.bestBelow[0] as number, score);
      for (const symbol of word) {
        const edge = node * symbols + symbol;
        if (children[edge] === -1) children[edge] = count++;
        node = children[edge] as number;
        this.bestBelow[node] = Math.max(this.bestBelow[node] as number, score);
      }
      this.wordAt[node] = index;
    });
    this.children = children.slice(0, count * symbols);
  }

  /** The node after one more symbol; -1 when no word goes on like this. Node 0 is the root. */
  next(node: number, symbol: number): number {
    return symbol < this.symbols ? (this.children[node * this.symbols + symbol] as number) : -1;
  }
}
