/** The words of a language model as a tree of characters, each node knowing which words are below it. */

export class Lexicon {
  /** Word at each node, or -1. */
  readonly wordAt: Int32Array;
  /** Highest score of any word at or below each node. */
  readonly bestBelow: Float32Array;
  /** The words at or below each node are [firstBelow, endBelow). */
  readonly firstBelow: Int32Array;
  readonly endBelow: Int32Array;
  /** (nodes, symbols): child, or -1. */
  readonly children: Int32Array;

  /**
   * @param words distinct words as symbols from 0 to `symbols` - 1, those with the same beginning side by side
   * @param scores of each word
   */
  constructor(
    words: readonly (readonly number[])[],
    scores: ArrayLike<number>,
    readonly symbols: number,
  ) {
    const nodes = nodesOf(words);
    const children = new Int32Array(nodes * symbols).fill(-1);
    this.wordAt = new Int32Array(nodes).fill(-1);
    this.bestBelow = new Float32Array(nodes).fill(-Infinity);
    this.firstBelow = new Int32Array(nodes).fill(-1);
    this.endBelow = new Int32Array(nodes);
    let count = 1;
    words.forEach((word, index) => {
      let node = 0;
      const score = scores[index] as number;
      this.include(0, index, score);
      for (const symbol of word) {
        const edge = node * symbols + symbol;
        if (children[edge] === -1) children[edge] = count++;
        node = children[edge] as number;
        this.include(node, index, score);
      }
      this.wordAt[node] = index;
    });
    this.children = children;
  }

  private include(node: number, word: number, score: number): void {
    this.bestBelow[node] = Math.max(this.bestBelow[node] as number, score);
    if (this.firstBelow[node] === -1) this.firstBelow[node] = word;
    this.endBelow[node] = word + 1;
  }

  /** The node after one more symbol; -1 when no word goes on like this. Node 0 is the root. */
  next(node: number, symbol: number): number {
    return symbol < this.symbols ? (this.children[node * this.symbols + symbol] as number) : -1;
  }
}

/** Of the tree: each word adds those letters that it does not share with the one before. */
function nodesOf(words: readonly (readonly number[])[]): number {
  let nodes = 1;
  words.forEach((word, index) => {
    const before = words[index - 1] ?? [];
    let shared = 0;
    while (shared < word.length && word[shared] === before[shared]) shared++;
    nodes += word.length - shared;
  });
  return nodes;
}
