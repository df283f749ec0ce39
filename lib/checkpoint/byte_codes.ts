/**
 * Dense `int8` codes in their two layouts (docs/format.md): a signed byte each, as `int-quantized` has them, and the words of a packed weight,
 * which hold `level + 128` and begin a new word with each row.
 */

// Adding 128 to a signed byte, or taking it away, turns its highest bit.
const highestBit = 0x80;

const wordsPerRow = (columns: number): number => Math.ceil(columns / 4);

/** Levels (rows, columns) of words (rows, ceil(columns / 4)). */
export function bytesOfWords(words: Int32Array, rows: number, columns: number): Int8Array {
  const stored = new Uint8Array(words.buffer, words.byteOffset, words.byteLength);
  const levels = new Int8Array(rows * columns);
  for (let row = 0; row < rows; row++) {
    const from = 4 * row * wordsPerRow(columns);
    for (let column = 0; column < columns; column++) levels[row * columns + column] = (stored[from + column] as number) ^ highestBit;
  }
  return levels;
}

/** Words (rows, ceil(columns / 4)) of levels (rows, columns); what fills a row's last word is zero. */
export function wordsOfBytes(levels: Int8Array, rows: number, columns: number): Int32Array {
  const words = new Int32Array(rows * wordsPerRow(columns));
  const stored = new Uint8Array(words.buffer);
  for (let row = 0; row < rows; row++) {
    const to = 4 * row * wordsPerRow(columns);
    for (let column = 0; column < columns; column++) stored[to + column] = (levels[row * columns + column] as number) ^ highestBit;
  }
  return words;
}
