/**
 * Byte-pair encoding (Sennrich et al. 2016): a word is cut into characters, and neighbours are merged in the order in
 * which training learnt the merges. Agrees with the `BPE` model of Hugging Face tokenizers.
 */

import { MinimumHeap } from "./minimum_heap.js";

/** Cuts words into pieces. */
export interface Segmentation {
  /** Ids of the pieces of one part of text. */
  segment(part: string): number[];
  idOf(piece: string): number | undefined;
}

interface BpeOptions {
  /** What characters outside of all pieces become; absent: they are left out. */
  readonly unknownId?: number | undefined;
  /** Neighbouring unknown characters become one id. */
  readonly fuseUnknown?: boolean;
  /** Unknown characters become their UTF-8 bytes, pieces like `<0xE2>`, where all of them exist. */
  readonly byteFallback?: boolean;
}

/** Two pieces that become one; the lower its rank, the sooner. Without ranks, the first in the list has the lowest. */
export type RankedMerge = readonly [left: string, right: string, rank?: number];

interface Merge {
  readonly rank: number;
  readonly id: number;
}

export class BpeModel implements Segmentation {
  private readonly merges = new Map<string, Merge>();

  /**
   * @param ids id of each piece
   * @param merges pairs of pieces; each pair and what it becomes must be pieces
   * @throws RangeError when they are not
   */
  constructor(
    private readonly ids: ReadonlyMap<string, number>,
    merges: Iterable<RankedMerge>,
    private readonly options: BpeOptions = {},
  ) {
    let index = 0;
    for (const [left, right, rank = index] of merges) {
      const [leftId, rightId, id] = [left, right, left + right].map((piece) => ids.get(piece));
      if (leftId === undefined || rightId === undefined || id === undefined) {
        throw new RangeError(`the merge of ${JSON.stringify(left)} and ${JSON.stringify(right)} names no piece of the vocabulary`);
      }
      const key = pairKey(leftId, rightId);
      if (!this.merges.has(key)) this.merges.set(key, { rank, id });
      index++;
    }
  }

  idOf(piece: string): number | undefined {
    return this.ids.get(piece);
  }

  /** The merge of the lowest rank is the next one, the leftmost of equals: in a time of n log n for n characters. */
  segment(part: string): number[] {
    const symbols = this.characters(part); // one that was merged into the symbol before it is -1
    const { length } = symbols;
    const next = Int32Array.from(symbols, (_, at) => at + 1);
    const previous = Int32Array.from(symbols, (_, at) => at - 1);
    const mergeAt = (at: number): Merge | undefined =>
      at >= 0 && next[at]! < length ? this.merges.get(pairKey(symbols[at]!, symbols[next[at]!]!)) : undefined;
    const queue = new MinimumHeap(); // rank and place of merges, as one number; those that others have overtaken too
    const offer = (at: number): void => {
      const merge = mergeAt(at);
      if (merge) queue.push(merge.rank * length + at);
    };
    for (let at = 0; at < length; at++) offer(at);
    for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
      const at = key % length;
      const merge = mergeAt(at);
      if (merge?.rank !== (key - at) / length) continue;
      const right = next[at]!;
      symbols[at] = merge.id;
      symbols[right] = -1;
      next[at] = next[right]!;
      if (next[right]! < length) previous[next[right]!] = at;
      offer(previous[at]!);
      offer(at);
    }
    return symbols.filter((id) => id >= 0);
  }

  private characters(part: string): number[] {
    const { unknownId, fuseUnknown = false, byteFallback = false } = this.options;
    const symbols: number[] = [];
    // Held back until a known character follows, so bytes of later characters overtake it, as in the library.
    let pending = false;
    const endUnknown = (): void => {
      if (pending && unknownId !== undefined) symbols.push(unknownId);
      pending = false;
    };
    for (const character of part) {
      const id = this.ids.get(character);
      const bytes = id === undefined && byteFallback ? idsOfBytes(character, this.ids) : undefined;
      if (id !== undefined) {
        endUnknown();
        symbols.push(id);
      } else if (bytes) {
        symbols.push(...bytes);
      } else {
        if (!fuseUnknown) endUnknown();
        pending = true;
      }
    }
    endUnknown();
    return symbols;
  }
}

/** `<0x0A>`, the piece of a byte. */
const bytePiece = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`;

/** The pieces of the bytes of a text in UTF-8; undefined where not all of them exist. */
export function idsOfBytes(text: string, idOfPiece: ReadonlyMap<string, number>): number[] | undefined {
  const ids = Array.from(new TextEncoder().encode(text), (byte) => idOfPiece.get(bytePiece(byte)));
  return ids.every((id) => id !== undefined) ? (ids as number[]) : undefined;
}

/** The byte that a piece like `<0x0A>` stands for. */
export function byteOfPiece(piece: string): number | undefined {
  const [, digits] = /^<0x([0-9A-F]{2})>$/.exec(piece) ?? [];
  return digits === undefined ? undefined : parseInt(digits, 16);
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Text of neighbouring byte pieces; as in the library, each of them is U+FFFD where they are no UTF-8 together. */
export function textOfBytes(bytes: readonly number[]): string {
  try {
    return utf8.decode(Uint8Array.from(bytes));
  } catch {
    return "\ufffd".repeat(bytes.length);
  }
}

const pairKey = (left: number, right: number): string => `${left},${right}`;
