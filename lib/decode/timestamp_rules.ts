/** What Whisper may write next when it writes times (Radford et al. 2023, section 2.3), as transformers and the original apply it. */
import type { AllowedTokens } from "../ops/token_choice.js";

export interface TimestampRules {
  /** `<|notimestamps|>`, which never comes; times are the ids after it. */
  readonly noTimestampsId: number;
  readonly endId: number;
  /** Latest first time, as an index of times. */
  readonly latestFirstTime?: number | undefined;
}

/**
 * Times begin the text and come in pairs, end of one segment and beginning of the next; they never go back; and a time comes when
 * all times together are likelier than any token of text.
 * @param written tokens after the prompt
 */
export function timesAllowed(
  written: readonly number[],
  { noTimestampsId, endId, latestFirstTime }: TimestampRules,
): Pick<AllowedTokens, "forbidden" | "together"> {
  const firstTime = noTimestampsId + 1;
  const isTime = (id: number | undefined): id is number => id !== undefined && id >= firstTime;
  const forbidding = (...forbidden: [number, number][]) => ({ forbidden, together: firstTime });
  if (written.length === 0) return forbidding([0, firstTime], [firstTime + (latestFirstTime ?? Infinity) + 1, Infinity]);
  const latest = written.findLast(isTime);
  if (latest === undefined) return forbidding();
  if (!isTime(written.at(-1))) return forbidding([firstTime, latest + 1]);
  const afterPair = written.length < 2 || isTime(written.at(-2));
  // The second of a pair may equal the first; other times go on.
  return afterPair ? forbidding([firstTime, Infinity]) : forbidding([0, endId], [firstTime, latest]);
}
