/** What Whisper may write next when it writes times (Radford et al. 2023, section 2.3), as transformers and the original apply it. */
import type { SequenceConstraint } from "./sequence_search.js";
import { logSumExp } from "./transducer.js";

export interface TimestampRules {
  /** `<|notimestamps|>`; times are the ids after it. */
  readonly noTimestampsId: number;
  readonly endId: number;
  /** Latest first time, as an index of times. */
  readonly latestFirstTime?: number | undefined;
}

/**
 * Times begin the text and come in pairs, end of one segment and beginning of the next; they never go back; and a time comes when
 * all times together are likelier than any token of text.
 */
export function timestampConstraint({ noTimestampsId, endId, latestFirstTime }: TimestampRules): SequenceConstraint {
  const firstTime = noTimestampsId + 1;
  return (scores, written) => {
    scores[noTimestampsId] = -Infinity;
    const isTime = (id: number | undefined): id is number => id !== undefined && id >= firstTime;
    const last = written.at(-1);
    const afterPair = written.length < 2 || isTime(written.at(-2));
    if (isTime(last)) {
      if (afterPair) scores.fill(-Infinity, firstTime);
      else scores.fill(-Infinity, 0, endId);
    }
    const latest = written.findLast(isTime);
    // The second of a pair may equal the first; other times go on.
    if (latest !== undefined) scores.fill(-Infinity, firstTime, isTime(last) && !afterPair ? latest : latest + 1);
    if (written.length === 0) {
      scores.fill(-Infinity, 0, firstTime);
      if (latestFirstTime !== undefined) scores.fill(-Infinity, firstTime + latestFirstTime + 1);
    }
    const times = logSumExp(scores.subarray(firstTime));
    const text = scores.subarray(0, firstTime).reduce((largest, score) => Math.max(largest, score), -Infinity);
    if (times > text) scores.fill(-Infinity, 0, firstTime);
  };
}
