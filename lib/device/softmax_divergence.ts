/** How far the distributions of a student on the GPU are from a teacher's there, row by row. Nothing is waited for. */
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface DeviceDivergenceBindings {
  deviceSoftmaxDivergence(
    student: DeviceTensorHandle,
    teacher: DeviceTensorHandle,
    temperature: number,
    wantsGradient: boolean,
  ): [divergences: DeviceTensorHandle, gradient?: DeviceTensorHandle];
  deviceWeightOfOthers(logits: DeviceTensorHandle, column: number, whole: boolean): DeviceTensorHandle;
  deviceMeanDivergence(
    divergences: DeviceTensorHandle,
    weights: DeviceTensorHandle | undefined,
    factor: number,
  ): [mean: DeviceTensorHandle, shares: DeviceTensorHandle];
  deviceScaleRows(x: DeviceTensorHandle, shares: DeviceTensorHandle, upstream: DeviceTensorHandle, factor: number): void;
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
 * float32 (rows): the probability of all columns but one; with `whole` 1 where that is more than a half, elsewhere 0.
 * @param logits (rows, columns), bfloat16
 * @throws UsmLiteError INVALID_ARGUMENT for a column that there is not
 */
export const deviceWeightOfOthers = (logits: DeviceTensor, column: number, { whole }: { readonly whole: boolean }): DeviceTensor =>
  new DeviceTensor(native().deviceWeightOfOthers(logits.handle, column, whole));

/**
 * float32 (1): `factor` times the mean of rows with weights, all alike where there are none; and float32 (rows): each row's share of it.
 * @param divergences float32 (rows)
 * @param weights float32 (rows), not negative; all zero: the mean is 0
 */
export function deviceMeanDivergence(
  divergences: DeviceTensor,
  weights: DeviceTensor | undefined,
  factor: number,
): { mean: DeviceTensor; shares: DeviceTensor } {
  const [mean, shares] = native().deviceMeanDivergence(divergences.handle, weights?.handle, factor);
  return { mean: new DeviceTensor(mean), shares: new DeviceTensor(shares) };
}

/**
 * `x[row] *= factor * shares[row] * upstream[0]`, in place; rows without a share become zeros.
 * @param x (rows, columns), bfloat16
 * @param upstream float32 (1)
 */
export function deviceScaleRows(x: DeviceTensor, shares: DeviceTensor, upstream: DeviceTensor, factor: number): void {
  native().deviceScaleRows(x.handle, shares.handle, upstream.handle, factor);
}
