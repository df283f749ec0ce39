/** Products with packed weights on every instruction set that this machine has. */
import {
  availableInstructionSets,
  PackedMatrix,
  packedLinear,
  type PackedLinearOptions,
  packWeight,
  setInstructionSet,
  setThreadCount,
  type Tensor,
  threadCount,
} from "../lib/operations.js";

const threads = threadCount();
export const sets = availableInstructionSets();
/** All but the portable reference. */
export const fast = sets.filter((set) => set !== "reference");

/** The best instruction set and all threads, as before a test. */
export function restoreRuntime(): void {
  setInstructionSet(sets.at(-1) ?? "reference");
  setThreadCount(threads);
}

export function packedMatrix(weight: Tensor, spec: string): PackedMatrix {
  return PackedMatrix.from(packWeight(weight, spec));
}

export function onSet(set: (typeof sets)[number], x: Tensor, weight: PackedMatrix, options?: PackedLinearOptions): Float32Array {
  setInstructionSet(set);
  return packedLinear(x, weight, options).toArray();
}

export function assertClose(
  t: { true(value: boolean, message?: string): unknown },
  actual: Float32Array,
  expected: Float32Array,
  tolerance: number,
  what: string,
): void {
  const scale = expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 1e-6);
  const worst = actual.reduce((largest, value, i) => Math.max(largest, Math.abs(value - (expected[i] as number))), 0);
  t.true(actual.length === expected.length && worst <= tolerance * scale, `${what}: differs by ${worst} of ${scale}`);
}
