/** How one weight matrix is coded, as text such as `int4+2:4`: training fakes it, export packs it, kernels multiply by it. */
import { addon } from "../native/addon.js";

/** N:M sparsity: of every `of` adjacent inputs at most `kept` are not zero. */
export interface Sparsity {
  readonly kept: number;
  readonly of: number;
}

/**
 * A parsed weight spec: `float32`, `int8`, `int4`, `int3` or `int2`; for integers optionally a scale per group of inputs
 * (`/g32`, `/g64`, `/g128`) instead of one per output channel; optionally N:M sparsity (`+2:4`, any 1 <= N < M <= 16).
 */
export interface WeightSpec {
  /** The canonical text; `2:4` becomes `float32+2:4`. */
  readonly text: string;
  /** Bits per stored code; 32 means float32 values. */
  readonly bits: number;
  /** Inputs that share a scale; absent: all inputs of an output channel do. */
  readonly groupSize?: number;
  /** Absent: dense. */
  readonly sparsity?: Sparsity;
}

/** Bytes of one packed matrix, as in the file. */
export interface PackedBytes {
  readonly codes: number;
  readonly scales: number;
  readonly mask: number;
}

interface WeightSpecBindings {
  parseWeightSpec(text: string): { text: string; bits: number; groupSize: number; kept: number; of: number };
  packedBytes(spec: string, rows: number, columns: number): PackedBytes;
}

const native = addon as WeightSpecBindings;

/**
 * Parses a weight spec.
 * @throws UsmLiteError UNSUPPORTED_SPEC naming what is wrong and what can be written
 */
export function parseWeightSpec(text: string): WeightSpec {
  const { text: canonical, bits, groupSize, kept, of } = native.parseWeightSpec(text);
  return {
    text: canonical,
    bits,
    ...(groupSize ? { groupSize } : {}),
    ...(of ? { sparsity: { kept, of } } : {}),
  };
}

/** The text of a spec put together by hand, checked. @throws UsmLiteError UNSUPPORTED_SPEC */
export function formatWeightSpec(spec: Omit<WeightSpec, "text">): string {
  const format = spec.bits === 32 ? "float32" : `int${spec.bits}`;
  const group = spec.groupSize ? `/g${spec.groupSize}` : "";
  const sparsity = spec.sparsity ? `+${spec.sparsity.kept}:${spec.sparsity.of}` : "";
  return parseWeightSpec(format + group + sparsity).text;
}

/** Bytes that a (rows, columns) matrix takes when packed: codes, scales and mask as they lie in the file. */
export function packedBytes(spec: string, rows: number, columns: number): PackedBytes {
  return native.packedBytes(spec, rows, columns);
}

/** Bits per weight of a packed (rows, columns) matrix, scales and mask included. */
export function bitsPerWeight(spec: string, rows: number, columns: number): number {
  const { codes, scales, mask } = packedBytes(spec, rows, columns);
  return ((codes + scales + mask) * 8) / (rows * columns);
}
