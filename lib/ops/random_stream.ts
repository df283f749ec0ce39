/** Seeds for dropout and other noise: one stream per run, saved with its checkpoints. */

/**
 * Hands out a reproducible sequence of seeds. Its whole state is `seed` and `position`.
 *
 * @example
 * const random = RandomStream.derived(seed, epoch); // the same numbers whenever this epoch comes
 */
export class RandomStream {
  constructor(
    readonly seed: number,
    public position = 0,
  ) {}

  /** A stream of its own for each list of keys, such as (seed, epoch, batch): noise that depends on nothing else. */
  static derived(seed: number, ...keys: readonly number[]): RandomStream {
    return new RandomStream(keys.reduce((derived, key) => new RandomStream(derived, key).nextSeed(), seed));
  }

  /** A fresh seed for one native operation: an integer in [0, 2^53). */
  nextSeed(): number {
    const high = mix(this.seed, this.position * 2);
    const low = mix(this.seed, this.position * 2 + 1);
    this.position++;
    return (high & 0x1fffff) * 2 ** 32 + low;
  }

  /** Uniform in [0, 1). */
  uniform(): number {
    return this.nextSeed() / 2 ** 53;
  }

  /** A whole number in [0, limit). */
  integer(limit: number): number {
    return Math.floor(this.uniform() * limit);
  }
}

// MurmurHash3's 32-bit finaliser (Appleby, public domain) over seed and counter.
function mix(seed: number, counter: number): number {
  let h = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) + Math.imul(counter + 1, 0xc2b2ae35)) >>> 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) >>> 0;
}
