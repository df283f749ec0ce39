/** Which utterances form which batch of an epoch. */
import { UsmLiteError } from "../errors.js";
import { RandomStream } from "../ops/random_stream.js";

/** How {@link planBatches} divides utterances. */
export interface BatchingOptions {
  /** Audio per batch: a batch is full when the next utterance would exceed it. A longer utterance is a batch of its own. */
  readonly batchSeconds: number;
  readonly seed: number;
  /**
   * Utterances are batched with others of about their length, from this many ranges of length with equal audio each;
   * default 6. With 1 they are mixed at random. Batches hold no padding either way; similar lengths make steps of
   * similar cost.
   */
  readonly lengthBuckets?: number;
  /** In the first so many epochs batches go from the shortest utterances to the longest; default 0. */
  readonly shortestFirstEpochs?: number;
}

/**
 * Batches of utterance indices for one epoch; every utterance is in exactly one. A pure function of its arguments.
 * @param durations seconds of each utterance
 * @throws UsmLiteError INVALID_ARGUMENT
 *
 * @example
 * planBatches([2, 3, 5, 4], 0, { batchSeconds: 8, seed: 1 }); // [[2], [3], [0, 1]]
 */
export function planBatches(durations: ArrayLike<number>, epoch: number, options: BatchingOptions): number[][] {
  const { batchSeconds, seed, lengthBuckets = 6, shortestFirstEpochs = 0 } = options;
  if (!(batchSeconds > 0)) throw new UsmLiteError("INVALID_ARGUMENT", `batchSeconds is ${batchSeconds}; it must be positive`);
  if (!Number.isInteger(lengthBuckets) || lengthBuckets < 1) {
    throw new UsmLiteError("INVALID_ARGUMENT", `lengthBuckets is ${lengthBuckets}; it must be a whole number from 1`);
  }
  const random = RandomStream.derived(seed, epoch);
  const shuffledIndices = shuffled(
    Array.from({ length: durations.length }, (_, index) => index),
    random,
  );
  const duration = (index: number): number => durations[index] as number;
  // The sort is stable: utterances of equal length stay in random order.
  const byLength = shuffledIndices.sort((a, b) => duration(a) - duration(b));
  if (epoch < shortestFirstEpochs) return fill(byLength, duration, batchSeconds);

  const total = byLength.reduce((sum, index) => sum + duration(index), 0);
  const buckets: number[][] = Array.from({ length: lengthBuckets }, () => []);
  let before = 0;
  for (const index of byLength) {
    const bucket = Math.min(lengthBuckets - 1, Math.floor((before / total) * lengthBuckets));
    (buckets[bucket] as number[]).push(index);
    before += duration(index);
  }
  return shuffled(
    buckets.flatMap((bucket) => fill(shuffled(bucket, random), duration, batchSeconds)),
    random,
  );
}

function fill(indices: readonly number[], duration: (index: number) => number, batchSeconds: number): number[][] {
  const batches: number[][] = [];
  let room = 0;
  for (const index of indices) {
    const current = batches.at(-1);
    if (current && duration(index) <= room) {
      current.push(index);
    } else {
      batches.push([index]);
      room = batchSeconds;
    }
    room -= duration(index);
  }
  return batches;
}

// Fisher and Yates; in place.
export function shuffled<Item>(items: Item[], random: RandomStream): Item[] {
  for (let i = items.length - 1; i > 0; i--) {
    const j = random.integer(i + 1);
    [items[i], items[j]] = [items[j] as Item, items[i] as Item];
  }
  return items;
}
