/**
 * Which GPU the tests from 100 on compute on: the emulator, or a real one with USMLITE_TEST_GPU=1. Import this before
 * anything of lib.
 */
import type { ExecutionContext } from "ava";

export const realGpu = process.env["USMLITE_TEST_GPU"] === "1";
/** Whether larger shapes are to be left out, for compute-sanitizer. */
export const onlySmall = process.env["USMLITE_TEST_SMALL"] === "1";
if (!realGpu) process.env["USMLITE_EMULATE_GPU"] = "1";

/** Deterministic whole numbers in [0, limit). */
export class RandomIntegers {
  private state: number;

  constructor(seed: number) {
    this.state = (seed * 2654435761 + 12345) >>> 0;
  }

  below(limit: number): number {
    this.state = (Math.imul(this.state, 1664525) + 1013904223) >>> 0;
    return Math.floor((this.state / 2 ** 32) * limit);
  }
}

/** bfloat16 or float16 bits as a number. */
export function fromSmallFloat(bits: number, exponentBits: number, mantissaBits: number): number {
  const sign = bits >> (exponentBits + mantissaBits) ? -1 : 1;
  const exponent = (bits >> mantissaBits) & (2 ** exponentBits - 1);
  const mantissa = bits & (2 ** mantissaBits - 1);
  const bias = 2 ** (exponentBits - 1) - 1;
  return exponent === 0
    ? sign * mantissa * 2 ** (1 - bias - mantissaBits)
    : sign * (2 ** mantissaBits + mantissa) * 2 ** (exponent - bias - mantissaBits);
}

/** Asserts that every value is within `tolerance` of the expected one, relative to the largest expected magnitude. */
export function assertClose(t: ExecutionContext, actual: Float32Array, expected: Float32Array, tolerance: number, what: string): void {
  const scale = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-30);
  let worst = 0;
  let where = -1;
  expected.forEach((value, i) => {
    const error = Math.abs((actual[i] as number) - value) / scale;
    if (!(error <= worst)) [worst, where] = [error, i];
  });
  t.true(
    actual.length === expected.length && worst <= tolerance,
    `${what}: element ${where} of ${expected.length} is ${actual[where]}, not ${expected[where]}: off by ${worst} of the largest, ${scale}`,
  );
}
