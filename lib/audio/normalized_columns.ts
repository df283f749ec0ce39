/** Features whose bins are normalized over the frames of an utterance. */

/**
 * Each of `bins` columns with mean 0 and (nearly) deviation 1.
 * @param values (frames, bins)
 * @param deviationOf what to divide by, of the variance of a sample: over frames - 1
 */
export function normalizedColumns(values: Float32Array, bins: number, deviationOf: (variance: number) => number): Float32Array {
  const frames = values.length / bins;
  const mean = new Float64Array(bins);
  const square = new Float64Array(bins);
  for (let i = 0; i < values.length; i++) mean[i % bins] = (mean[i % bins] as number) + (values[i] as number) / frames;
  for (let i = 0; i < values.length; i++) {
    const difference = (values[i] as number) - (mean[i % bins] as number);
    square[i % bins] = (square[i % bins] as number) + difference * difference;
  }
  const deviation = square.map((sum) => deviationOf(sum / Math.max(frames - 1, 1)));
  return values.map((value, i) => (value - (mean[i % bins] as number)) / (deviation[i % bins] as number));
}
