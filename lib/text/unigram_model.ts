/**
 * Unigram language model segmentation (Kudo 2018, "Subword Regularization"): of all ways to write a word as a row of
 * pieces, the most probable. Agrees with the `Unigram` model of Hugging Face tokenizers, ties included.
 */

import { idsOfBytes } from "./bpe_model.js";

/** A sub-word and the logarithm of its probability. */
export type ScoredPiece = readonly [piece: string, score: number];

/**
 * In UTF-16 code units, as everywhere in JavaScript. Text is cut in a time of its length times that of the longest piece. SentencePiece learns
 * pieces of 16 characters, unless told otherwise.
 */
export const MAXIMUM_PIECE_LENGTH = 1000;

interface TrieNode {
  children: Map<string, TrieNode>;
  /** Index of the piece that ends here. */
  id?: number;
}

/** How far below the least probable piece an unknown character lies. */
const UNKNOWN_PENALTY = 10;

export class UnigramModel {
  private readonly root: TrieNode = { children: new Map() };
  private readonly ids = new Map<string, number>();
  private readonly unknownScore: number;

  /**
   * @param unknownId what characters outside of all pieces become
   * @param byteFallback whether they become their UTF-8 bytes, pieces like `<0xE2>`, where all of them exist
   */
  constructor(
    readonly pieces: readonly ScoredPiece[],
    readonly unknownId: number,
    private readonly byteFallback = false,
  ) {
    let least = Infinity;
    pieces.forEach(([piece, score], id) => {
      this.ids.set(piece, id);
      least = Math.min(least, score);
      let node = this.root;
      for (const character of piece) node = childOf(node, character);
      node.id = id;
    });
    this.unknownScore = least - UNKNOWN_PENALTY;
  }

  idOf(piece: string): number | undefined {
    return this.ids.get(piece);
  }

  /** The ids of the most probable pieces of `word` (Viterbi). Neighbouring unknown characters become one id, or their bytes. */
  segment(word: string): number[] {
    const characters = [...word];
    const best = this.bestPaths(characters);
    const ids: number[] = []; // from the last to the first
    let unknown = "";
    const endUnknown = (): void => {
      if (unknown) for (const id of this.idsOfUnknown(unknown).reverse()) ids.push(id); // too many for arguments of a call
      unknown = "";
    };
    for (let end = characters.length; end > 0;) {
      const { begin, id } = best[end] as PathEnd;
      if (id === this.unknownId) {
        unknown = characters.slice(begin, end).join("") + unknown;
      } else {
        endUnknown();
        ids.push(id);
      }
      end = begin;
    }
    endUnknown();
    return ids.reverse();
  }

  /** A row of unknown characters may be a piece all the same, less probable than they are. */
  private idsOfUnknown(text: string): number[] {
    const id = this.ids.get(text);
    if (id !== undefined) return [id];
    return (this.byteFallback ? idsOfBytes(text, this.ids) : undefined) ?? [this.unknownId];
  }

  // best[end]: the best path that ends before character `end`.
  private bestPaths(characters: readonly string[]): (PathEnd | undefined)[] {
    const best: (PathEnd | undefined)[] = new Array(characters.length + 1).fill(undefined);
    const offer = (begin: number, end: number, id: number, score: number): void => {
      const rival = best[end];
      if (!rival || score > rival.score) best[end] = { begin, id, score };
    };
    for (let begin = 0; begin < characters.length; begin++) {
      const scoreSoFar = best[begin]?.score ?? 0; // every position is reached, if only by unknown characters
      let node: TrieNode | undefined = this.root;
      let coversOne = false;
      for (let end = begin; end < characters.length;) {
        node = node.children.get(characters[end++] as string);
        if (!node) break;
        if (node.id === undefined) continue;
        offer(begin, end, node.id, (this.pieces[node.id] as ScoredPiece)[1] + scoreSoFar);
        coversOne ||= end === begin + 1;
      }
      if (!coversOne) offer(begin, begin + 1, this.unknownId, this.unknownScore + scoreSoFar);
    }
    return best;
  }
}

interface PathEnd {
  readonly begin: number;
  readonly id: number;
  readonly score: number;
}

function childOf(node: TrieNode, character: string): TrieNode {
  let child = node.children.get(character);
  if (!child) node.children.set(character, (child = { children: new Map() }));
  return child;
}
