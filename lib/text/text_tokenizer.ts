/** What a sequence-to-sequence model's decoder needs of a tokenizer, whichever kind it is. */
export interface TextTokenizer {
  /** Number of ids. */
  readonly size: number;
  idOf(piece: string): number | undefined;
  piece(id: number): string;
  /** Whether an id is no text. */
  isSpecial(id: number): boolean;
  /** Ids of a text, without special tokens. */
  encode(text: string): number[];
  /** Special tokens are left out. */
  decode(ids: Iterable<number>): string;
  /** What lies between texts that were decoded by themselves: nothing where a text keeps the space that it begins with. */
  readonly separator: "" | " ";
}
