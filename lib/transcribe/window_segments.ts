/** What a sequence-to-sequence model writes about a window, cut at the times that it writes. */
import type { WrittenSequence } from "../decode/sequence_beam.js";

/** A part of a window between two times. */
export interface WindowSegment {
  /** Seconds from the beginning of the window. */
  readonly start: number;
  readonly end: number;
  /** Of text, without times. */
  readonly tokens: readonly number[];
  readonly logProbabilities: readonly number[];
  /** When each token was said, in seconds from the beginning of the window, and the last one's end; absent where the model cannot tell. */
  readonly tokenTimes?: readonly number[] | undefined;
}

export interface WindowText {
  readonly segments: readonly WindowSegment[];
  /** Seconds after which the next window begins: where the last complete segment ends. */
  readonly advance: number;
}

/** Between two times that a model writes. */
export const secondsPerTime = 0.02;

/**
 * Text between times; what follows the last pair of times is left for the next window.
 * @param seconds of the window
 * @param firstTime id of the time 0; infinite where the model writes no times
 */
export function segmentsOf({ tokens, logProbabilities }: WrittenSequence, seconds: number, firstTime: number): WindowText {
  const isTime = (id: number | undefined): id is number => id !== undefined && id >= firstTime;
  const timeOf = (id: number): number => Math.min(seconds, (id - firstTime) * secondsPerTime);
  const segments: WindowSegment[] = [];
  let start = 0;
  let begin = 0;
  let complete = 0;
  const close = (end: number, at: number): void => {
    const kept = [...tokens.keys()].slice(begin, at).filter((index) => !isTime(tokens[index]));
    if (kept.length > 0) {
      segments.push({
        start,
        end,
        tokens: kept.map((i) => tokens[i] as number),
        logProbabilities: kept.map((i) => logProbabilities[i] as number),
      });
    }
  };
  tokens.forEach((id, index) => {
    if (!isTime(id)) return;
    const text = [...tokens.keys()].slice(begin, index).some((at) => !isTime(tokens[at]));
    if (text) {
      close(timeOf(id), index);
      complete = timeOf(id);
      begin = index;
    }
    start = timeOf(id);
  });
  const pairs = tokens.some((id, index) => isTime(id) && isTime(tokens[index + 1]));
  const endsWithOneTime = isTime(tokens.at(-1)) && !isTime(tokens.at(-2));
  if (pairs && !endsWithOneTime && complete > 0) return { segments, advance: complete };
  close(seconds, tokens.length);
  return { segments, advance: seconds };
}
