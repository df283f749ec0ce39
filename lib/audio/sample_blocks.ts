/** Audio that comes in blocks of any length. */

/** The samples of all blocks, one after another; those of a single block are not copied. */
export function concatenate(blocks: readonly Float32Array[]): Float32Array {
  const [first] = blocks;
  if (first && blocks.length === 1) return first;
  const all = new Float32Array(blocks.reduce((sum, { length }) => sum + length, 0));
  let count = 0;
  for (const block of blocks) {
    all.set(block, count);
    count += block.length;
  }
  return all;
}
