/** Tensor memory of one model among several that the process holds. */
import { memoryStatistics, resetPeakMemory, trimMemory } from "../lib/native/runtime.js";

/** What `make` gives, and the bytes it keeps: weights, and what the first use derives from them. */
export function resident<T>(make: () => T, use: (made: T) => void): { made: T; weightBytes: number } {
  trimMemory();
  const before = memoryStatistics().bytesInUse;
  const made = make();
  use(made);
  return { made, weightBytes: memoryStatistics().bytesInUse - before };
}

/** Highest bytes during `work`, as if the model of `weightBytes` were alone in the process. */
export function peakBytes(work: () => void, weightBytes: number): number {
  const idle = memoryStatistics().bytesInUse;
  resetPeakMemory();
  work();
  return memoryStatistics().peakBytes - idle + weightBytes;
}
