/** Comparing what every instruction set computes with the plain C++ reference. */
import type { ExecutionContext } from "ava";
import { availableInstructionSets, instructionSet, setInstructionSet } from "../lib/native/runtime.js";
import { tidy } from "../lib/tensor/scope.js";
import type { Tensor } from "../lib/tensor/tensor.js";

/**
 * Largest difference of two arrays, relative to the largest value of the second, or to 0.05 where all are smaller:
 * what is left after cancellation of values near one cannot be more precise than they were.
 */
export function relativeDifference(actual: Float32Array, expected: Float32Array): number {
  let difference = 0;
  let scale = 0.05;
  expected.forEach((value, i) => {
    const error = Math.abs((actual[i] as number) - value);
    difference = error > difference || Number.isNaN(error) ? error : difference;
    scale = Math.max(scale, Math.abs(value));
  });
  return difference / scale;
}

/**
 * Runs `compute` with each instruction set this processor has and compares every tensor it returns with what the
 * reference gave, up to `tolerance` relative to the largest value of that tensor.
 */
export function agreeOnAllInstructionSets(t: ExecutionContext, label: string, compute: () => readonly Tensor[], tolerance = 2e-5): void {
  const before = instructionSet();
  try {
    setInstructionSet("reference");
    const expected = compute().map((tensor) => tensor.toArray());
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      compute().forEach((tensor, index) => {
        const difference = relativeDifference(tensor.toArray(), expected[index] as Float32Array);
        t.true(difference <= tolerance, `${label}, ${set}, tensor ${index}: relative difference ${difference}`);
      });
    }
  } finally {
    setInstructionSet(before);
  }
}

/** Runs `body` with each instruction set this processor has; the last is the best. */
export function onEveryInstructionSet(body: (set: string) => void): void {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    tidy(() => body(set));
  }
}
