/** Tensors in the memory of the GPU. */
import type { NativeHandle } from "../native/native_object.js";
import { description, shapeIn } from "../tensor/description.js";
import { Tensor, type DType, type TensorHandle, type TensorValues } from "../tensor/tensor.js";
import { UsmLiteError } from "../errors.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { gpuAddon } from "./gpu.js";
import type { PinnedBuffer, PinnedBufferHandle } from "./pinned_buffer.js";

/** `float8` is e4m3. */
export type DeviceType = "float32" | "bfloat16" | "float16" | "int8" | "float8";

/** The native object behind a tensor on the GPU; operations pass it to the addon. */
export type DeviceTensorHandle = NativeHandle;

interface DeviceTensorBindings {
  deviceTensorCreate(shape: readonly number[], type: DeviceType, byte: number, stream?: StreamHandle): DeviceTensorHandle;
  deviceTensorUpload(values: TensorHandle, type: DeviceType, stream?: StreamHandle): DeviceTensorHandle;
  deviceTensorCast(tensor: DeviceTensorHandle, type: DeviceType, stream?: StreamHandle): DeviceTensorHandle;
  deviceTensorReshape(tensor: DeviceTensorHandle, shape: readonly number[]): DeviceTensorHandle;
  deviceTensorRows(tensor: DeviceTensorHandle, begin: number, end: number): DeviceTensorHandle;
  deviceTensorColumns(tensor: DeviceTensorHandle, begin: number, end: number): DeviceTensorHandle;
  deviceTensorCopy(from: DeviceTensorHandle, to: DeviceTensorHandle, stream?: StreamHandle): void;
  deviceTensorDownload(tensor: DeviceTensorHandle, stream?: StreamHandle): TensorHandle;
  deviceTensorWriteFrom(tensor: DeviceTensorHandle, pinned: PinnedBufferHandle, stream?: StreamHandle): void;
  deviceTensorReadInto(tensor: DeviceTensorHandle, pinned: PinnedBufferHandle, stream?: StreamHandle): void;
  deviceTensorDescribe(tensor: DeviceTensorHandle, numbers: Float64Array): void;
}

/** In the order of their numbers in the addon. */
const deviceTypes: readonly DeviceType[] = ["float32", "bfloat16", "float16", "int8", "float8"];

const native = (): DeviceTensorBindings => gpuAddon<DeviceTensorBindings>();

// Tensor without its static functions, which make tensors of other types from other values than those here.
const TensorInstance: new (...words: ConstructorParameters<typeof Tensor>) => Tensor = Tensor;

/**
 * A matrix or vector in the memory of the GPU. Its memory is given back when the scope it was made in ends
 * ({@link tidy}), when it is disposed of, or by `using`; using it afterwards throws `TENSOR_RELEASED`.
 * Operations of inference take it like any tensor and return before the GPU has done them; reading values waits.
 *
 * @example
 * using y = DeviceTensor.from(Tensor.from([1, 2, 3, 4], [2, 2])); // bfloat16
 * y.toArray(); // 1, 2, 3, 4
 */
export class DeviceTensor extends TensorInstance {
  /** How elements are stored; `dtype` is what they are read as. */
  readonly type: DeviceType;
  /** Of GPU memory; rows begin at multiples of 16 bytes. */
  readonly bytes: number;

  /** Takes over a handle that an operation of the addon returned. */
  constructor(handle: DeviceTensorHandle) {
    native().deviceTensorDescribe(handle, description);
    const [number, bytes, axes] = description as unknown as [number, number, number];
    const type = deviceTypes[number] as DeviceType;
    super(handle, { shape: shapeIn(description, axes), dtype: readAs(type) });
    this.type = type;
    this.bytes = bytes;
  }

  override get device(): "cuda" {
    return "cuda";
  }

  /**
   * Copies a tensor to the GPU, rounded to `type`, to nearest with ties to even.
   * @param values float32, one or two axes; for `int8` uint8
   * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY; INVALID_ARGUMENT for other shapes and types
   */
  static from(values: Tensor, type: Exclude<DeviceType, "float8"> = "bfloat16", stream?: DeviceStream): DeviceTensor {
    return new DeviceTensor(native().deviceTensorUpload(values.handle, type, stream?.handle));
  }

  /** @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY; INVALID_ARGUMENT for another number of axes than one or two */
  static zeros(shape: readonly number[], type: DeviceType = "bfloat16", stream?: DeviceStream): DeviceTensor {
    return new DeviceTensor(native().deviceTensorCreate(shape, type, 0, stream?.handle));
  }

  /** Between float32 and bfloat16 or float16. @throws UsmLiteError INVALID_ARGUMENT for other types */
  cast(type: "float32" | "bfloat16" | "float16", stream?: DeviceStream): DeviceTensor {
    return new DeviceTensor(native().deviceTensorCast(this.handle, type, stream?.handle));
  }

  /**
   * The same memory as another matrix of as many elements.
   * @throws UsmLiteError INVALID_ARGUMENT for another number; UNSUPPORTED_SPEC where rows, old or new, are no multiples of 16 bytes
   */
  override reshape(shape: readonly number[]): DeviceTensor {
    return new DeviceTensor(native().deviceTensorReshape(this.handle, shape));
  }

  /** Rows [begin, end) of a matrix, sharing memory. */
  override rows(begin: number, end: number): DeviceTensor {
    return new DeviceTensor(native().deviceTensorRows(this.handle, begin, end));
  }

  /** Copies all rows into the first of `target`, of as many columns and the same type; a vector into the first elements of another. */
  copyTo(target: DeviceTensor, stream?: DeviceStream): void {
    native().deviceTensorCopy(this.handle, target.handle, stream?.handle);
  }

  /** Overwrites the values in place, rounded to the type. */
  override write(source: TensorValues): void {
    if (this.type === "float8")
      throw new UsmLiteError("INVALID_ARGUMENT", "DeviceTensor.write: float8 values have scales; make them with quantizeRows");
    using values = Tensor.from(this.type === "int8" ? Uint8Array.from(source) : source, this.shape);
    using placed = DeviceTensor.from(values, this.type);
    placed.copyTo(this);
  }

  /**
   * Overwrites floats by the first values of a buffer, rounded to the type. Returns before that is done: the buffer must stay as it is until a
   * {@link DeviceEvent} after it has come.
   * @throws UsmLiteError INVALID_ARGUMENT when the buffer is too small or this is no tensor of floats
   */
  writeFrom(buffer: PinnedBuffer, stream?: DeviceStream): void {
    native().deviceTensorWriteFrom(this.handle, buffer.handle, stream?.handle);
  }

  /**
   * Copies floats into the first values of a buffer. Returns before that is done, as {@link DeviceTensor.writeFrom}.
   * @throws UsmLiteError INVALID_ARGUMENT likewise
   */
  readInto(buffer: PinnedBuffer, stream?: DeviceStream): void {
    native().deviceTensorReadInto(this.handle, buffer.handle, stream?.handle);
  }

  /** A copy in memory of its own. */
  override clone(stream?: DeviceStream): DeviceTensor {
    const copy = DeviceTensor.zeros(this.shape, this.type, stream);
    this.copyTo(copy, stream);
    return copy;
  }

  /**
   * Waits, and copies the values back: floats of 16 or 32 bits as float32, int8 as int8, float8 as its bytes (uint8).
   * @throws UsmLiteError GPU_FAILED when work that led to them failed
   */
  toTensor(stream?: DeviceStream): Tensor {
    return new Tensor(native().deviceTensorDownload(this.handle, stream?.handle));
  }

  /** A copy of the values; waits. */
  override toArray(): Float32Array {
    using values = this.toTensor();
    return values.toArray();
  }
}

/**
 * Columns [begin, end) of a matrix, sharing memory: for operations that keep to their columns, as attention does. `copyTo` does not.
 * @throws UsmLiteError INVALID_ARGUMENT when they do not begin and end at multiples of 16 bytes
 */
export function deviceColumns(x: DeviceTensor, begin: number, end: number): DeviceTensor {
  return new DeviceTensor(native().deviceTensorColumns(x.handle, begin, end));
}

function readAs(type: DeviceType): DType {
  if (type === "int8") return "int8";
  return type === "float8" ? "uint8" : "float32";
}
