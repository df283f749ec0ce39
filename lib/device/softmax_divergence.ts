/** How far the distributions of a student on the GPU are from a teacher's there, row by row. */
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface DeviceDivergenceBindings {
  deviceSoftmaxDivergence(
    student: DeviceTensorHandle,
    teacher: DeviceTensorHandle,
    temperature: number,
    wantsGradient: boolean,
  ): [divergences: DeviceTensorHandle, gradient?: DeviceTensorHandle];
  deviceColumnProbability(logits: DeviceTensorHandle, column: number): DeviceTensorHandle;
}

const native = (): DeviceDivergenceBindings => gpuAddon<DeviceDivergenceBindings>();

/**
 * @param student logits (rows, columns), bfloat16
 * @param teacher like student
 * @returns float32 (rows): KL(softmax(teacher / temperature) || softmax(student / temperature)); and, where it is wanted, like student, the
 * difference of these two distributions, which is the gradient of `temperature` times that
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 */
export function deviceSoftmaxDivergence(
  student: DeviceTensor,
  teacher: DeviceTensor,
  { temperature, wantsGradient }: { readonly temperature: number; readonly wantsGradient: boolean },
): { divergences: DeviceTensor; gradient: DeviceTensor | undefined } {
  const [divergences, gradient] = native().deviceSoftmaxDivergence(student.handle, teacher.handle, temperature, wantsGradient);
  return { divergences: new DeviceTensor(divergences), gradient: gradient && new DeviceTensor(gradient) };
}

/**
 * float32 (rows): the probability of one column in each row.
 * @param logits (rows, columns), bfloat16
 * @throws UsmLiteError INVALID_ARGUMENT for a column that there is not
 */
export const deviceColumnProbability = (logits: DeviceTensor, column: number): DeviceTensor =>
  new DeviceTensor(native().deviceColumnProbability(logits.handle, column));
