/** What native tensors say of themselves: numbers, written into one array, since every tensor is asked and objects take longer to make. */

/** Type, bytes, number of axes, and the extents of up to eight. */
export const description = new Float64Array(11);

export function shapeIn(numbers: Float64Array, axes: number): readonly number[] {
  if (axes === 2) return [numbers[3] as number, numbers[4] as number];
  return Array.from(numbers.subarray(3, 3 + axes));
}
