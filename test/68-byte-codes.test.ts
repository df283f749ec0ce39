import test from "ava";
import { bytesOfWords, wordsOfBytes } from "../lib/checkpoint/byte_codes.js";

test("bytes of rows that do not fill their last word become the same words again", (t) => {
  for (const columns of [1, 2, 3, 4, 5, 9]) {
    const levels = Int8Array.from({ length: 3 * columns }, (_, i) => [-127, 127, 0, -1, 1, 64, -128][i % 7] as number);
    const words = wordsOfBytes(levels, 3, columns);
    t.deepEqual(bytesOfWords(words, 3, columns), levels);
    const filling = [...new Uint8Array(words.buffer)].filter((_, i) => i % (4 * Math.ceil(columns / 4)) >= columns);
    t.true(filling.every((byte) => byte === 0));
  }
  t.deepEqual([...new Uint8Array(wordsOfBytes(Int8Array.of(-127, 0, 127), 1, 3).buffer)], [1, 128, 255, 0]);
});
