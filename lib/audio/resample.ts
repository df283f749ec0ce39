/** Band-limited change of sampling rate. */
import { addon } from "../native/addon.js";

/** The native object behind a {@link StreamResampler}. */
type ResamplerHandle = object;

interface ResampleBindings {
  resample(samples: Float32Array, fromRate: number, toRate: number): Float32Array;
  resamplerCreate(fromRate: number, toRate: number): ResamplerHandle;
  resamplerPush(resampler: ResamplerHandle, samples: Float32Array): Float32Array;
  resamplerFinish(resampler: ResamplerHandle): Float32Array;
}

const native = addon as ResampleBindings;

/**
 * `samples` at another sampling rate: `round(samples.length * toRate / fromRate)` values without delay, value j being
 * the signal at j / toRate seconds. A polyphase filter, a sinc under a Kaiser window: flat (0.1 dB) up to 95 % of the
 * lower rate's Nyquist frequency, and images and aliases at least 80 dB down. Runs in the calling thread and the pool.
 *
 * Only the ratio of the rates counts, so `resample(samples, 9, 10)` plays at 90 % of the speed.
 *
 * @throws UsmLiteError INVALID_ARGUMENT for rates that are not whole numbers from 1 to 1,000,000 or differ by more than
 * a factor of 256
 *
 * @example
 * const telephone = resample(samples, 16_000, 8_000);
 */
export function resample(samples: Float32Array, fromRate: number, toRate: number): Float32Array {
  return native.resample(samples, fromRate, toRate);
}

/**
 * {@link resample} for a signal that arrives in pieces: all pieces together are the same samples, bit for bit.
 *
 * @example
 * const resampler = new StreamResampler(48_000, 16_000);
 * const begin = resampler.push(samples);
 * const rest = resampler.finish();
 */
export class StreamResampler {
  private readonly handle: ResamplerHandle;

  /** @throws UsmLiteError INVALID_ARGUMENT as {@link resample} */
  constructor(fromRate: number, toRate: number) {
    this.handle = native.resamplerCreate(fromRate, toRate);
  }

  /** What can be computed so far. */
  push(samples: Float32Array): Float32Array {
    return native.resamplerPush(this.handle, samples);
  }

  /** The rest; nothing may be pushed afterwards. */
  finish(): Float32Array {
    return native.resamplerFinish(this.handle);
  }
}
