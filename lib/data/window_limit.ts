/** Speech that fits into the windows that a sequence-to-sequence model hears. */
import type { FrontEnd } from "../audio/front_end.js";
import { UsmLiteError } from "../errors.js";
import type { Utterance } from "./manifest.js";

/** Undefined where a model hears speech of any length. */
export const windowSecondsOf = ({ config: { windowSamples, samplingRate } }: Pick<FrontEnd, "config">): number | undefined =>
  windowSamples && windowSamples / samplingRate;

/**
 * Those that a window of the model holds; what is longer cannot be learned from a window.
 * @param speeds that they are heard at
 * @throws UsmLiteError BAD_MANIFEST when none is left
 */
export function withinWindow(
  utterances: readonly Utterance[],
  windowSeconds: number | undefined,
  speeds: readonly number[],
  onStatus: (sentence: string) => void,
): readonly Utterance[] {
  if (windowSeconds === undefined) return utterances;
  const kept = utterances.filter(({ duration }) => duration / Math.min(...speeds) <= windowSeconds);
  const left = utterances.length - kept.length;
  if (utterances.length > 0 && kept.length === 0) {
    throw new UsmLiteError("BAD_MANIFEST", `every utterance is longer than the model's window of ${windowSeconds} s; cut them`);
  }
  if (left > 0) onStatus(`leaving out ${left} utterances that are longer than the model's window of ${windowSeconds} s`);
  return kept;
}
