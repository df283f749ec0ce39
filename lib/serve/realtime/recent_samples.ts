/** The newest samples of a stream, whatever the lengths in which they come. */

export class RecentSamples {
  private buffer = new Float32Array(0);
  private end = 0;

  get length(): number {
    return this.end;
  }

  /** Adds samples; those before the last `keep` may be forgotten. */
  push(samples: Float32Array, keep: number): void {
    const added = samples.subarray(Math.max(0, samples.length - keep));
    if (this.end + added.length > this.buffer.length) {
      // Room for as much again, so that a sample is moved once on average.
      const kept = this.last(keep - added.length);
      const buffer = new Float32Array(2 * (kept.length + added.length));
      buffer.set(kept);
      this.buffer = buffer;
      this.end = kept.length;
    }
    this.buffer.set(added, this.end);
    this.end += added.length;
  }

  /** The last `count` samples, fewer where there are not so many; valid until more come. */
  last(count: number): Float32Array {
    return this.buffer.subarray(Math.max(0, this.end - Math.max(0, count)), this.end);
  }

  clear(): void {
    this.end = 0;
  }
}
