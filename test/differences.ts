/** How far values are from those that are expected. */

/** Root mean square of the difference, relative to that of `expected`. */
export function rootMeanSquareError(actual: Float32Array, expected: Float32Array): number {
  let error = 0;
  let power = 0;
  expected.forEach((value, i) => {
    error += (value - (actual[i] as number)) ** 2;
    power += value ** 2;
  });
  return Math.sqrt(error / power);
}
