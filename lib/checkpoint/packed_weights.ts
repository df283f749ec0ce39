/** Packed weights inside a safetensors file: docs/format.md, "Packed weights". */
import { UsmLiteError } from "../errors.js";
import type { PackedWeight } from "../quant/packed_weight.js";
import { hasZeroPoints, type WeightSpec } from "../quant/weight_spec.js";
import type { Tensor } from "../tensor/tensor.js";
import type { SafetensorsEntry } from "./safetensors.js";
import type { TensorFile } from "./tensor_file.js";

/** The tensors that hold the packed weight `name`: its codes, then scales, zero points and mask where `spec` has them. */
export function packedTensorNames(name: string, spec: WeightSpec): string[] {
  return [
    `${name}_packed`,
    ...(spec.bits < 32 ? [`${name}_scale`] : []),
    ...(hasZeroPoints(spec) ? [`${name}_zero_point`] : []),
    ...(spec.sparsity ? [`${name}_mask`] : []),
  ];
}

/** The shape of the packed weight `name`: (out, in), or (out, in, 1). */
export function packedShape(file: TensorFile, name: string): number[] {
  if (!file.has(`${name}_shape`)) {
    throw new UsmLiteError("BAD_CHECKPOINT", `${file.path} has no tensor "${name}_shape", which every packed weight has`);
  }
  return [...file.values(`${name}_shape`)];
}

/**
 * Reads one packed weight; its bytes are checked when it is unpacked or made a matrix to multiply by.
 * @throws UsmLiteError BAD_CHECKPOINT when a tensor is missing
 */
export function readPackedWeight(file: TensorFile, name: string, spec: WeightSpec): PackedWeight {
  const part = (suffix: string): Tensor => {
    if (file.has(name + suffix)) return file.tensor(name + suffix);
    throw new UsmLiteError("BAD_CHECKPOINT", `${file.path} has no tensor "${name}${suffix}", which ${spec.text} needs`);
  };
  return {
    spec: spec.text,
    shape: packedShape(file, name),
    packed: part("_packed"),
    ...(spec.bits < 32 ? { scale: part("_scale") } : {}),
    ...(hasZeroPoints(spec) ? { zeroPoint: part("_zero_point") } : {}),
    ...(spec.sparsity ? { mask: part("_mask") } : {}),
  };
}

/** What to write for the packed weight `name`. */
export function packedEntries(name: string, weight: PackedWeight): [string, SafetensorsEntry][] {
  const entries: [string, SafetensorsEntry][] = [
    [`${name}_packed`, weight.packed],
    [`${name}_shape`, { dtype: "I64", shape: [weight.shape.length], data: BigInt64Array.from(weight.shape, BigInt) }],
  ];
  if (weight.scale) entries.push([`${name}_scale`, weight.scale]);
  if (weight.zeroPoint) entries.push([`${name}_zero_point`, weight.zeroPoint]);
  if (weight.mask) entries.push([`${name}_mask`, weight.mask]);
  return entries;
}
