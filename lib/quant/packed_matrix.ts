/** Packed weights made ready for multiplication, shared by all workers of the process. */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { NativeObject, type NativeHandle } from "../native/native_object.js";
import { packedMatrixShape, partHandles, type PackedWeight, type PartHandles } from "./packed_weight.js";
import type { Tensor, TensorHandle } from "../tensor/tensor.js";
import type { ActivationCoding } from "./activation_coding.js";
import type { LayerCoding } from "./layer_coding.js";
import { weightMatrix } from "./weight_matrix.js";
import { parseWeightSpec } from "./weight_spec.js";

/** The native object behind a packed matrix; operations pass it to the addon. */
export interface PackedMatrixHandle extends NativeHandle {
  describe(): { spec: string; rows: number; columns: number; residentBytes: number } | undefined;
}

interface PackedMatrixBindings {
  packedMatrixCreate(spec: string, rows: number, columns: number, ...parts: PartHandles): PackedMatrixHandle;
  packedMatrixRound(
    spec: string,
    weight: TensorHandle,
    mask: TensorHandle | undefined,
    scale: TensorHandle,
    zeroPoint?: TensorHandle,
  ): PackedMatrixHandle;
  packedMatrixShare(handle: PackedMatrixHandle): number;
  packedMatrixFromShared(id: number): PackedMatrixHandle;
}

const native = addon as PackedMatrixBindings;

/**
 * One immutable weight (out, in), rearranged once for the kernels of {@link packedLinear}. Its memory is given back when
 * the last object that refers to it, in whatever worker, is disposed of (or collected). Scopes do not track it.
 *
 * @example
 * using packed = PackedMatrix.from(packWeight(weight, "int4+2:4")); // what kernels multiply by
 */
export class PackedMatrix extends NativeObject<PackedMatrixHandle> {
  /** Canonical weight spec. */
  readonly spec: string;
  /** Whether it is multiplied in whole numbers: its codes are no floats. */
  readonly holdsIntegers: boolean;
  /** Output channels. */
  readonly rows: number;
  /** Inputs. */
  readonly columns: number;
  /** Bytes it keeps in memory; counted once however many objects refer to it. */
  readonly residentBytes: number;

  private constructor(
    handle: PackedMatrixHandle,
    /** What it is multiplied by unless a product says otherwise. */
    readonly activations: ActivationCoding = "int8",
  ) {
    super(handle);
    const description = handle.describe();
    if (!description) throw new UsmLiteError("INTERNAL", "a new packed matrix is already released");
    this.spec = description.spec;
    this.holdsIntegers = parseWeightSpec(description.spec).format !== "float32";
    this.rows = description.rows;
    this.columns = description.columns;
    this.residentBytes = description.residentBytes;
  }

  /**
   * @throws UsmLiteError BAD_CHECKPOINT when the parts of `weight` do not fit together or hold impossible values;
   * INVALID_ARGUMENT with more than 65,536 inputs
   */
  static from(weight: PackedWeight, activations?: ActivationCoding): PackedMatrix {
    const [rows, columns] = packedMatrixShape(weight);
    return new PackedMatrix(native.packedMatrixCreate(weight.spec, rows, columns, ...partHandles(weight)), activations);
  }

  /**
   * The matrix that packing a float weight (out, in) or (out, in, kernel) with these scales would give, without packing it.
   * @param options.mask uint8, the weight's shape; sparse specs need it
   * @throws UsmLiteError UNSUPPORTED_SPEC; INVALID_ARGUMENT for `float32`, or a mask that the spec cannot hold
   */
  static round(
    weight: Tensor,
    spec: string,
    {
      mask,
      scale,
      zeroPoint,
      activations,
    }: Omit<LayerCoding, "scale" | "mask"> & { readonly scale: Tensor; readonly mask?: Tensor | undefined },
  ): PackedMatrix {
    using matrix = weightMatrix(weight);
    using maskMatrix = mask ? weightMatrix(mask) : null;
    return new PackedMatrix(
      native.packedMatrixRound(spec, matrix.handle, maskMatrix?.handle, scale.handle, zeroPoint?.handle),
      activations,
    );
  }

  /**
   * The matrix that another worker of this process shares as `id`.
   * @throws UsmLiteError INVALID_ARGUMENT when nobody keeps it any more
   */
  static fromShared(id: number, activations?: ActivationCoding): PackedMatrix {
    return new PackedMatrix(native.packedMatrixFromShared(id), activations);
  }

  /** A number to send to other workers. It keeps nothing alive: hold on to this object until they have called {@link PackedMatrix.fromShared}. */
  share(): number {
    return native.packedMatrixShare(this.handle);
  }
}
