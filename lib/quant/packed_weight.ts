/** Weights as they lie in a packed checkpoint; docs/format.md describes the bytes. */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { magnitudeMask } from "../sparse/mask.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { weightMatrix, weightMatrixShape, weightOfMatrix } from "./weight_matrix.js";
import { parseWeightSpec } from "./weight_spec.js";

/** One packed matrix: the tensors that follow its name in the file. */
export interface PackedWeight {
  /** Canonical weight spec. */
  readonly spec: string;
  /** `weight_shape`: (out, in) or (out, in, kernel). */
  readonly shape: readonly number[];
  /** `weight_packed`: int32 (out, words) for dense codes, uint8 for ternary and for sparse ones, float32 otherwise. */
  readonly packed: Tensor;
  /** `weight_scale`: float32 (out, scales per row), with `/dq` uint8; absent for float32. */
  readonly scale?: Tensor;
  /** `weight_scale_steps`: float32, the mean of all scales and the step of every 256; with `/dq` only. */
  readonly scaleSteps?: Tensor;
  /** `weight_zero_point`: float32 (out, scales per row); `uint` formats only. */
  readonly zeroPoint?: Tensor;
  /** `weight_mask`: uint8 (bytes); absent for dense. */
  readonly mask?: Tensor;
}

/** Scales that something else than the rule of the format has chosen: learned, searched or calibrated ones. */
export interface GivenScales {
  /** float32 (out, scales per row) of {@link weightMatrix}, positive and finite; with `/dq` as they are before they are quantized. */
  readonly scale?: Tensor;
  /** float32, as `scale`: with `uint` formats, and then only beside `scale`. */
  readonly zeroPoint?: Tensor;
}

export type PartHandles = [
  packed: TensorHandle,
  scale?: TensorHandle,
  mask?: TensorHandle,
  zeroPoint?: TensorHandle,
  scaleSteps?: TensorHandle,
];

interface CodecBindings {
  packWeight(
    weight: TensorHandle,
    spec: string,
    mask?: TensorHandle,
    scale?: TensorHandle,
    zeroPoint?: TensorHandle,
  ): { packed: TensorHandle; scale?: TensorHandle; scaleSteps?: TensorHandle; zeroPoint?: TensorHandle; mask?: TensorHandle };
  unpackWeight(spec: string, rows: number, columns: number, ...parts: PartHandles): { weight: TensorHandle; mask: TensorHandle };
}

const native = addon as CodecBindings;

/**
 * Quantizes and packs a weight. Scales, per output channel or group, over the weights that are kept: `max |w| / largest
 * level` (`int`, `midrise`, `nf4`; the symmetric quantizer of google/praxis), `mean |w|` (`ternary`, BitNet b1.58; `int1`,
 * XNOR-Net), `(max w - min w) / largest level` (`uint`). Each weight becomes the nearest level, ties to even.
 * @param weight float32 (out, in) or (out, in, kernel), of which {@link weightMatrix} is packed
 * @param mask uint8, same shape, for sparse specs: what training pruned to; absent: {@link magnitudeMask}
 * @param scales scales (out, scales per row) to use instead of those, and of `uint` formats zero points as well
 * @throws UsmLiteError UNSUPPORTED_SPEC; INVALID_ARGUMENT for NaN or infinite weights, scales that are not positive and
 * finite, or a mask that keeps more than N of M (`uint`, `midrise`, `int1`: another number than N)
 *
 * @example
 * const packed = packWeight(weight, "int4+2:4"); // the two largest of every four weights, four bits each
 */
export function packWeight(weight: Tensor, spec: string, mask?: Tensor, { scale, zeroPoint }: GivenScales = {}): PackedWeight {
  const { text, sparsity } = parseWeightSpec(spec);
  if (mask && !sparsity) {
    throw new UsmLiteError("INVALID_ARGUMENT", `packWeight: ${text} is dense and takes no mask; add a sparsity, for example ${text}+2:4`);
  }
  using matrix = weightMatrix(weight);
  const own = sparsity && !mask ? magnitudeMask(weight, sparsity.kept, sparsity.of) : undefined;
  const used = mask ?? own;
  using maskMatrix = used ? weightMatrix(used) : null;
  const parts = native.packWeight(matrix.handle, text, maskMatrix?.handle, scale?.handle, zeroPoint?.handle);
  own?.dispose();
  return {
    spec: text,
    shape: weight.shape,
    packed: new Tensor(parts.packed),
    ...(parts.scale ? { scale: new Tensor(parts.scale) } : {}),
    ...(parts.scaleSteps ? { scaleSteps: new Tensor(parts.scaleSteps) } : {}),
    ...(parts.zeroPoint ? { zeroPoint: new Tensor(parts.zeroPoint) } : {}),
    ...(parts.mask ? { mask: new Tensor(parts.mask) } : {}),
  };
}

/**
 * The dequantized weight, float32 of the packed weight's shape, and the positions it stores (uint8, same shape). A mask
 * that kept fewer than N of a group comes back with zeros of the lowest pruned inputs counted as stored.
 * @throws UsmLiteError BAD_CHECKPOINT when the parts do not fit together or hold impossible values
 *
 * @example
 * const { weight: rounded, mask } = unpackWeight(packWeight(weight, "int4+2:4"));
 */
export function unpackWeight(weight: PackedWeight): { weight: Tensor; mask: Tensor } {
  const [rows, columns] = packedMatrixShape(weight);
  const parts = native.unpackWeight(weight.spec, rows, columns, ...partHandles(weight));
  using values = new Tensor(parts.weight);
  using mask = new Tensor(parts.mask);
  return { weight: weightOfMatrix(values, weight.shape), mask: weightOfMatrix(mask, weight.shape) };
}

/** The tensors of a packed weight in the order in which the addon takes them. @throws UsmLiteError BAD_CHECKPOINT without codes */
export function partHandles({ packed, scale, mask, zeroPoint, scaleSteps }: PackedWeight): PartHandles {
  if ((packed as Tensor | undefined) === undefined) {
    throw new UsmLiteError("BAD_CHECKPOINT", "there is no weight_packed, the codes of a weight");
  }
  return [packed.handle, scale?.handle, mask?.handle, zeroPoint?.handle, scaleSteps?.handle] as PartHandles;
}

/** Shape of a packed weight's matrix. @throws UsmLiteError BAD_CHECKPOINT for another shape than (out, in) or (out, in, kernel) */
export function packedMatrixShape({ shape }: PackedWeight): [rows: number, columns: number] {
  if (shape.length < 2 || shape.length > 3 || shape.some((extent) => extent < 1)) {
    throw new UsmLiteError("BAD_CHECKPOINT", `weight_shape is (${shape.join(", ")}); packed weights are (out, in) or (out, in, kernel)`);
  }
  return weightMatrixShape(shape);
}
