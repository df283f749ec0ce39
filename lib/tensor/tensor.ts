/** Tensors: contiguous, row major, in native memory. */
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { NativeObject, type NativeHandle } from "../native/native_object.js";
import { description, shapeIn } from "./description.js";
import { trackInScope } from "./scope.js";

/** Types of the elements of a {@link Tensor}. */
export type DType = "float32" | "int32" | "int8" | "uint8";
export type TensorValues = Float32Array | Int32Array | Int8Array | Uint8Array;

/** The native object behind a tensor; operations pass it to the addon. */
export type TensorHandle = NativeHandle;

interface TensorBindings {
  tensorDescribe(handle: TensorHandle, numbers: Float64Array): void;
  tensorCreate(shape: readonly number[], dtype: DType, values?: TensorValues): TensorHandle;
  tensorRead(handle: TensorHandle, destination: TensorValues): void;
  tensorWrite(handle: TensorHandle, source: TensorValues): void;
  tensorView(handle: TensorHandle, shape: readonly number[], firstRow: number): TensorHandle;
}

const native = addon as TensorBindings;

const arrayTypes = { float32: Float32Array, int32: Int32Array, int8: Int8Array, uint8: Uint8Array } as const;

/** In the order of their numbers in the addon. */
const dtypes: readonly DType[] = ["float32", "int32", "int8", "uint8"];

function describe(handle: TensorHandle): { shape: readonly number[]; dtype: DType } {
  native.tensorDescribe(handle, description);
  const [type, , axes] = description as unknown as [number, number, number];
  return { shape: shapeIn(description, axes), dtype: dtypes[type] as DType };
}

/**
 * A contiguous row-major array in native memory. Its memory is given back when the scope it was made in ends
 * ({@link tidy}), when {@link Tensor.dispose} is called, or by `using`; using it afterwards throws `TENSOR_RELEASED`.
 *
 * @example
 * using x = Tensor.from([1, 2, 3, 4, 5, 6], [2, 3]);
 * x.toArray(); // Float32Array of 6
 */
export class Tensor extends NativeObject<TensorHandle> {
  readonly shape: readonly number[];
  readonly dtype: DType;
  /** Set on trainable parameters, and by operations on what depends on them while a tape records. */
  requiresGrad = false;

  /** Takes over a handle that an operation of the addon returned, and says what it is unless it does itself. */
  constructor(handle: TensorHandle, { shape, dtype }: { readonly shape: readonly number[]; readonly dtype: DType } = describe(handle)) {
    super(handle);
    this.shape = shape;
    this.dtype = dtype;
    trackInScope(this);
  }

  /** Where its memory is. Operations on a tensor run there. */
  get device(): "cpu" | "cuda" {
    return "cpu";
  }

  static zeros(shape: readonly number[], dtype: DType = "float32"): Tensor {
    return new Tensor(native.tensorCreate(shape, dtype));
  }

  /** @throws UsmLiteError INVALID_ARGUMENT when the number of values does not fit the shape */
  static from(values: TensorValues | readonly number[], shape?: readonly number[], dtype?: DType): Tensor {
    const type = dtype ?? dtypeOf(values);
    const typed = values instanceof arrayTypes[type] ? values : arrayTypes[type].from(values as ArrayLike<number>);
    return new Tensor(native.tensorCreate(shape ?? [values.length], type, typed));
  }

  /** Number of elements. */
  get size(): number {
    return this.shape.reduce((product, extent) => product * extent, 1);
  }

  /** Extent of one axis; negative counts from the last. */
  dim(axis: number): number {
    const extent = this.shape[axis < 0 ? axis + this.shape.length : axis];
    if (extent === undefined) {
      throw new UsmLiteError("INVALID_ARGUMENT", `axis ${axis} does not exist in shape (${this.shape.join(", ")})`);
    }
    return extent;
  }

  /** A copy of the values. */
  toArray(): Float32Array;
  toArray(): TensorValues {
    const values = new arrayTypes[this.dtype](this.size);
    native.tensorRead(this.handle, values);
    return values;
  }

  /** A copy of the values of an int32 tensor. */
  toInt32Array(): Int32Array {
    if (this.dtype !== "int32") throw new UsmLiteError("INVALID_ARGUMENT", `the tensor is ${this.dtype}, not int32`);
    return this.toArray() as unknown as Int32Array;
  }

  /** Copies the values into `destination`, which must have the same type and size. */
  read(destination: TensorValues): void {
    native.tensorRead(this.handle, destination);
  }

  /** Overwrites the values in place. */
  write(source: TensorValues): void {
    native.tensorWrite(this.handle, source);
  }

  /** The same memory in another shape of as many elements. */
  reshape(shape: readonly number[]): Tensor {
    const elements = shape.reduce((product, extent) => product * extent, 1);
    if (elements !== this.size) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `shape (${this.shape.join(", ")}) cannot become (${shape.join(", ")}): ${this.size} elements, not ${elements}`,
      );
    }
    return new Tensor(native.tensorView(this.handle, shape, 0));
  }

  /** Rows [begin, end) of the first axis, sharing memory. */
  rows(begin: number, end: number): Tensor {
    return new Tensor(native.tensorView(this.handle, [end - begin, ...this.shape.slice(1)], begin));
  }

  /** A copy in memory of its own. */
  clone(): Tensor {
    return Tensor.from(this.toArray(), this.shape, this.dtype);
  }
}

function dtypeOf(values: TensorValues | readonly number[]): DType {
  if (values instanceof Int32Array) return "int32";
  if (values instanceof Int8Array) return "int8";
  if (values instanceof Uint8Array) return "uint8";
  return "float32";
}
