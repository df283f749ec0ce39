/** Packed weights inside a safetensors file: docs/format.md, "Packed weights". */
import { UsmLiteError } from "../errors.js";
import type { PackedWeight } from "../quant/packed_weight.js";
import { weightMatrixShape } from "../quant/weight_matrix.js";
import { hasZeroPoints, packedBytes as packedMatrixBytes, type WeightSpec } from "../quant/weight_spec.js";
import { Tensor } from "../tensor/tensor.js";
import { bytesOfWords, wordsOfBytes } from "./byte_codes.js";
import type { CompressedTensorsFormat } from "./compressed_tensors.js";
import { bitsOfDtype, type SafetensorsDtype } from "./safetensors_dtype.js";
import type { HeaderEntry, SafetensorsEntry } from "./safetensors_writer.js";
import type { TensorFile } from "./tensor_file.js";

/** Whether the codes of the weight `name` are a signed byte each, under its own name: `int-quantized`. */
export function hasByteCodes(file: TensorFile, name: string): boolean {
  return !file.has(`${name}_packed`) && file.has(name) && file.dtype(name) === "I8";
}

/** The tensors that hold the packed weight `name`: its codes, then scales, their steps, zero points and mask where `spec` has them. */
export function packedTensorNames(file: TensorFile, name: string, spec: WeightSpec): string[] {
  return [
    hasByteCodes(file, name) ? name : `${name}_packed`,
    ...(spec.bits < 32 ? [`${name}_scale`] : []),
    ...(spec.doubleQuantized ? [`${name}_scale_steps`] : []),
    ...(hasZeroPoints(spec) ? [`${name}_zero_point`] : []),
    ...(spec.sparsity ? [`${name}_mask`] : []),
  ];
}

/** The shape of the packed weight `name`: (out, in), or (out, in, 1). */
export function packedShape(file: TensorFile, name: string): number[] {
  if (hasByteCodes(file, name)) return [...file.shape(name)];
  if (!file.has(`${name}_shape`)) {
    throw new UsmLiteError("BAD_CHECKPOINT", `${file.path} has no tensor "${name}_shape", which every packed weight has`);
  }
  return [...file.values(`${name}_shape`)];
}

/**
 * Reads one packed weight; its bytes are checked when it is unpacked or made a matrix to multiply by.
 * @throws UsmLiteError BAD_CHECKPOINT when a tensor is missing, or bytes hold what they cannot
 */
export function readPackedWeight(file: TensorFile, name: string, spec: WeightSpec): PackedWeight {
  const part = (suffix: string): Tensor => {
    if (file.has(name + suffix)) return file.tensor(name + suffix);
    throw new UsmLiteError("BAD_CHECKPOINT", `${file.path} has no tensor "${name}${suffix}", which ${spec.text} needs`);
  };
  return {
    spec: spec.text,
    shape: packedShape(file, name),
    packed: hasByteCodes(file, name) ? packedBytes(file, name, spec) : part("_packed"),
    ...(spec.bits < 32 ? { scale: part("_scale") } : {}),
    ...(spec.doubleQuantized ? { scaleSteps: part("_scale_steps") } : {}),
    ...(hasZeroPoints(spec) ? { zeroPoint: part("_zero_point") } : {}),
    ...(spec.sparsity ? { mask: part("_mask") } : {}),
  };
}

/** The words of a weight that is stored as bytes. */
function packedBytes(file: TensorFile, name: string, { format, sparsity, text }: WeightSpec): Tensor {
  const [rows, columns, ...others] = file.shape(name);
  if (format !== "int8" || sparsity || rows === undefined || columns === undefined || others.length > 0) {
    throw new UsmLiteError(
      "BAD_CHECKPOINT",
      `${file.path}: tensor "${name}" is I8 of shape (${file.shape(name).join(", ")}) for ${text}; only dense int8 matrices (out, in) are stored so`,
    );
  }
  const words = wordsOfBytes(file.values(name) as Int8Array, rows, columns);
  return Tensor.from(words, [rows, words.length / rows]);
}

/**
 * What to write for the packed weight `name`.
 * @param format `int-quantized`: for dense `int8` matrices, a signed byte for each code
 */
export function packedEntries(name: string, weight: PackedWeight, format?: CompressedTensorsFormat): [string, SafetensorsEntry][] {
  if (format === "int-quantized") {
    const [rows, columns] = weight.shape as [number, number];
    const codes = bytesOfWords(weight.packed.toInt32Array(), rows, columns);
    return [
      [name, { dtype: "I8", shape: [rows, columns], data: codes }],
      [`${name}_scale`, weight.scale as Tensor],
    ];
  }
  const entries: [string, SafetensorsEntry][] = [
    [`${name}_packed`, weight.packed],
    [`${name}_shape`, { dtype: "I64", shape: [weight.shape.length], data: BigInt64Array.from(weight.shape, BigInt) }],
  ];
  if (weight.scale) entries.push([`${name}_scale`, weight.scale]);
  if (weight.scaleSteps) entries.push([`${name}_scale_steps`, weight.scaleSteps]);
  if (weight.zeroPoint) entries.push([`${name}_zero_point`, weight.zeroPoint]);
  if (weight.mask) entries.push([`${name}_mask`, weight.mask]);
  return entries;
}

/** Scales that share a step, with `/dq`. */
const scalesPerStep = 256;

/** Types and shapes of what {@link packedEntries} makes of a weight of this shape, in the same order. @throws UsmLiteError UNSUPPORTED_SPEC */
export function packedOutline(name: string, shape: readonly number[], spec: WeightSpec, format?: CompressedTensorsFormat): HeaderEntry[] {
  const [rows, columns] = weightMatrixShape(shape);
  const { codes, mask } = packedMatrixBytes(spec.text, rows, columns);
  const scales = [rows, spec.groupSize ? Math.ceil(columns / spec.groupSize) : 1] as const;
  const entry = (suffix: string, dtype: SafetensorsDtype, extents: readonly number[]): HeaderEntry => ({
    name: name + suffix,
    dtype,
    shape: extents,
    bytes: (product(extents) * bitsOfDtype[dtype]) / 8,
  });
  if (format === "int-quantized") return [entry("", "I8", shape), entry("_scale", "F32", scales)];
  const codesEntry = (): HeaderEntry => {
    if (spec.bits === 32) return entry("_packed", "F32", [codes / 4]);
    if (spec.sparsity) return entry("_packed", "U8", [codes]); // one stream through all rows
    return spec.format === "ternary" ? entry("_packed", "U8", [rows, codes / rows]) : entry("_packed", "I32", [rows, codes / 4 / rows]);
  };
  return [
    codesEntry(),
    entry("_shape", "I64", [shape.length]),
    ...(spec.bits < 32 ? [entry("_scale", spec.doubleQuantized ? "U8" : "F32", scales)] : []),
    ...(spec.doubleQuantized ? [entry("_scale_steps", "F32", [1 + Math.ceil(product(scales) / scalesPerStep)])] : []),
    ...(hasZeroPoints(spec) ? [entry("_zero_point", "F32", scales)] : []),
    ...(spec.sparsity ? [entry("_mask", "U8", [mask])] : []),
  ];
}

const product = (shape: readonly number[]): number => shape.reduce((result, extent) => result * extent, 1);
