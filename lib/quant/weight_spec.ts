/** How one weight matrix is coded, as text such as `int4+2:4`: training fakes it, export packs it, kernels multiply by it. */
import { addon } from "../native/addon.js";

/** N:M sparsity: of every `of` adjacent inputs at most `kept` are not zero. */
export interface Sparsity {
  readonly kept: number;
  readonly of: number;
}

/**
 * A parsed weight spec: a number format; for all but `float32` optionally a scale per group of inputs (`/g32`, `/g64`,
 * `/g128`) instead of one per output channel, which `/dq` quantizes as well (double quantization, QLoRA, arXiv 2305.14314: eight bits a
 * scale, steps of 256 scales, the mean subtracted; not for `uint`); optionally N:M sparsity (`+2:4`, any 1 <= N < M <= 16).
 *
 * | format | weights are scale times |
 * |---|---|
 * | `float32` | (the weights themselves) |
 * | `int8`, `int6`, .. `int2` | whole numbers, symmetric around zero |
 * | `uint8`, `uint6`, .. `uint2` | whole numbers minus a float zero point |
 * | `midrise8`, `midrise6`, .. `midrise2`, `int1` | odd numbers, symmetric around zero, which is none of them: for weights that sparsity has kept |
 * | `ternary` | -1, 0 or 1; five weights in a byte |
 * | `nf4` | the 16 quantiles of NormalFloat (QLoRA, arXiv 2305.14314), as multiples of 1/127 |
 */
export interface WeightSpec {
  /** The canonical text; `2:4` becomes `float32+2:4`. */
  readonly text: string;
  /** The number format alone. */
  readonly format: string;
  /** Bits per stored code; 32 means float32 values, 1.6 ternary ones. */
  readonly bits: number;
  /** Inputs that share a scale; absent: all inputs of an output channel do. */
  readonly groupSize?: number;
  /** Scales are quantized as well; absent: they are float32. */
  readonly doubleQuantized?: true;
  /** Absent: dense. */
  readonly sparsity?: Sparsity;
}

/** Bytes of one packed matrix, as in the file. */
export interface PackedBytes {
  readonly codes: number;
  /** With their steps, where they are quantized, and the zero points. */
  readonly scales: number;
  readonly mask: number;
}

interface WeightSpecBindings {
  parseWeightSpec(text: string): {
    text: string;
    format: string;
    bits: number;
    groupSize: number;
    doubleQuantized: boolean;
    kept: number;
    of: number;
  };
  packedBytes(spec: string, rows: number, columns: number): PackedBytes;
}

const native = addon as WeightSpecBindings;

/**
 * Parses a weight spec.
 * @throws UsmLiteError UNSUPPORTED_SPEC naming what is wrong and what can be written
 *
 * @example
 * parseWeightSpec("int4+2:4").sparsity; // { kept: 2, of: 4 }
 */
export function parseWeightSpec(text: string): WeightSpec {
  const { text: canonical, format, bits, groupSize, doubleQuantized, kept, of } = native.parseWeightSpec(text);
  return {
    text: canonical,
    format,
    bits,
    ...(groupSize ? { groupSize } : {}),
    ...(doubleQuantized ? { doubleQuantized } : {}),
    ...(of ? { sparsity: { kept, of } } : {}),
  };
}

/** Whether a zero point lies beside each scale. */
export function hasZeroPoints(spec: WeightSpec): boolean {
  return spec.format.startsWith("uint");
}

/**
 * The text of a spec put together by hand, checked.
 * @throws UsmLiteError UNSUPPORTED_SPEC
 *
 * @example
 * formatWeightSpec({ format: "int4", groupSize: 64, sparsity: { kept: 2, of: 4 } }); // "int4/g64+2:4"
 */
export function formatWeightSpec(spec: Omit<WeightSpec, "text" | "bits">): string {
  const group = spec.groupSize ? `/g${spec.groupSize}` : "";
  const scales = spec.doubleQuantized ? "/dq" : "";
  const sparsity = spec.sparsity ? `+${spec.sparsity.kept}:${spec.sparsity.of}` : "";
  return parseWeightSpec(spec.format + group + scales + sparsity).text;
}

/**
 * Bytes that a (rows, columns) matrix takes when packed: codes, scales and mask as they lie in the file.
 * @throws UsmLiteError UNSUPPORTED_SPEC
 *
 * @example
 * packedBytes("int4+2:4", 1024, 1024); // { codes: 262144, scales: 4096, mask: 87382 }
 */
export function packedBytes(spec: string, rows: number, columns: number): PackedBytes {
  return native.packedBytes(spec, rows, columns);
}

/**
 * Bits per weight of a packed (rows, columns) matrix, scales and mask included.
 *
 * @example
 * bitsPerWeight("int4+2:4", 1024, 1024); // about 2.70
 */
export function bitsPerWeight(spec: string, rows: number, columns: number): number {
  const { codes, scales, mask } = packedBytes(spec, rows, columns);
  return ((codes + scales + mask) * 8) / (rows * columns);
}

/** `spec` with another sparsity, or without. */
export function withSparsity({ sparsity: _, ...dense }: WeightSpec, sparsity: Sparsity | undefined): WeightSpec {
  return parseWeightSpec(formatWeightSpec({ ...dense, ...(sparsity ? { sparsity } : {}) }));
}
