/** Samples from outside that no file holds: one that is not finite makes all of a recording unheard. */
import { UsmLiteError } from "../errors.js";

/** BAD_AUDIO when a sample is not finite. @param before samples of the recording that came before these */
export function notFinite(samples: Float32Array, before = 0): UsmLiteError | undefined {
  const bad = samples.findIndex((value) => !Number.isFinite(value));
  if (bad < 0) return undefined;
  return new UsmLiteError(
    "BAD_AUDIO",
    `sample ${before + bad} is ${samples[bad]}; samples must be finite numbers, -1 to 1 being full scale`,
  );
}
