/** Tensors of a training run on the GPU, which lie in its checkpoints as they do when it trains on the CPU. */
import { weightMatrix, weightOfMatrix } from "../quant/weight_matrix.js";
import { tidy } from "../tensor/scope.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { DeviceTensor, type DeviceTensorHandle, type DeviceType } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface DeviceParameterBindings {
  deviceTensorCreate(shape: readonly number[], type: DeviceType, byte: number): DeviceTensorHandle;
  deviceTensorUpload(values: TensorHandle, type: DeviceType): DeviceTensorHandle;
}

const native = (): DeviceParameterBindings => gpuAddon<DeviceParameterBindings>();

/**
 * A parameter, a moment, an average or a mask on the GPU: a vector as it is, a weight of two or three axes as its {@link weightMatrix}, one of
 * a convolution over a plane, (out, in, height, width), as (out, in * height * width). Floats are float32, masks int8.
 *
 * @example
 * const weight = DeviceParameter.place(convolution); // (out, in, kernel) becomes (out, kernel * in)
 * weight.stored().shape; // (out, in, kernel)
 */
export class DeviceParameter extends DeviceTensor {
  private constructor(
    handle: DeviceTensorHandle,
    /** The shape that checkpoints, and the CPU, know it by. */
    readonly storedShape: readonly number[],
  ) {
    super(handle);
  }

  /**
   * Copies a tensor of the CPU.
   * @param values float32, or uint8, with one to four axes
   * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY
   */
  static place(values: Tensor): DeviceParameter {
    using matrix = matrixOf(values);
    return new DeviceParameter(native().deviceTensorUpload(matrix.handle, values.dtype === "uint8" ? "int8" : "float32"), values.shape);
  }

  /** Zeros like it. */
  zeros(): DeviceParameter {
    return new DeviceParameter(native().deviceTensorCreate(this.shape, this.type, 0), this.storedShape);
  }

  override clone(): DeviceParameter {
    const copy = this.zeros();
    this.copyTo(copy);
    return copy;
  }

  /** Waits, and copies it to the CPU: float32 or uint8, of {@link DeviceParameter.storedShape}. */
  stored(): Tensor {
    return tidy(() => {
      const found = this.toTensor();
      const values = this.type === "int8" ? Tensor.from(Uint8Array.from(found.toArray()), this.shape) : found;
      return hasMatrix(this.storedShape) ? weightOfMatrix(values, this.storedShape) : values.reshape(this.storedShape);
    });
  }

  /** Overwrites it with what {@link DeviceParameter.stored} gives. */
  restore(values: Tensor): void {
    using matrix = matrixOf(values);
    this.write(matrix.toArray());
  }
}

const hasMatrix = ({ length }: readonly number[]): boolean => length === 2 || length === 3;

function matrixOf(values: Tensor): Tensor {
  if (hasMatrix(values.shape)) return weightMatrix(values);
  const [first = 0, ...others] = values.shape;
  return values.reshape(others.length > 0 ? [first, others.reduce((product, extent) => product * extent, 1)] : values.shape);
}

/** A tensor of the CPU beside `neighbour`: a copy on the GPU where that is there, otherwise a copy on the CPU. */
export const copyBeside = (neighbour: Tensor, values: Tensor): Tensor =>
  neighbour instanceof DeviceTensor && !(values instanceof DeviceTensor) ? DeviceParameter.place(values) : values.clone();

/** Overwrites a tensor by another of its shape on the same device, which is not waited for. */
export function overwrite(target: Tensor, source: Tensor): void {
  if (source instanceof DeviceTensor) source.copyTo(target as DeviceTensor);
  else target.write(source.toArray());
}

/** Zeros of a tensor's shape, where it is. */
export function zerosLike(tensor: Tensor): Tensor {
  if (tensor instanceof DeviceParameter) return tensor.zeros();
  return tensor instanceof DeviceTensor ? DeviceTensor.zeros(tensor.shape, "float32") : Tensor.zeros(tensor.shape);
}

/** The shape that a tensor has in checkpoints. */
export const storedShapeOf = (tensor: Tensor): readonly number[] => (tensor instanceof DeviceParameter ? tensor.storedShape : tensor.shape);

/** A tensor as checkpoints hold it: itself, or where it is on the GPU a copy. */
export function storedForm(tensor: Tensor): Tensor {
  if (tensor instanceof DeviceParameter) return tensor.stored();
  return tensor instanceof DeviceTensor ? tensor.toTensor() : tensor;
}
