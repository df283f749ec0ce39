/** The squared distance of matrices on the GPU. Nothing is waited for. */
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface DeviceMeanSquareBindings {
  deviceRelativeMeanSquare(student: DeviceTensorHandle, teacher: DeviceTensorHandle): [value: DeviceTensorHandle, factor: DeviceTensorHandle];
  deviceRelativeMeanSquareBackward(
    student: DeviceTensorHandle,
    teacher: DeviceTensorHandle,
    factor: DeviceTensorHandle,
    upstream: DeviceTensorHandle,
  ): DeviceTensorHandle;
}

const native = (): DeviceMeanSquareBindings => gpuAddon<DeviceMeanSquareBindings>();

/**
 * float32 (1): `|student - teacher|² / |teacher|²`; and float32 (1): `2 / |teacher|²`, which its gradient needs.
 * @param student bfloat16 or float32
 * @param teacher of the same type and shape
 * @throws UsmLiteError INVALID_ARGUMENT otherwise
 */
export function deviceRelativeMeanSquare(student: DeviceTensor, teacher: DeviceTensor): { value: DeviceTensor; factor: DeviceTensor } {
  const [value, factor] = native().deviceRelativeMeanSquare(student.handle, teacher.handle);
  return { value: new DeviceTensor(value), factor: new DeviceTensor(factor) };
}

/** `factor[0] * upstream[0] * (student - teacher)`, like `student`. */
export const deviceRelativeMeanSquareBackward = (
  student: DeviceTensor,
  teacher: DeviceTensor,
  factor: DeviceTensor,
  upstream: DeviceTensor,
): DeviceTensor =>
  new DeviceTensor(native().deviceRelativeMeanSquareBackward(student.handle, teacher.handle, factor.handle, upstream.handle));
