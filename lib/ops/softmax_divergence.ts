/** How far a student's distributions are from a teacher's (Hinton, Vinyals, Dean 2015). */
import { DeviceTensor } from "../device/device_tensor.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { isRecording, recordStep } from "./tape.js";

interface DivergenceBindings {
  softmaxDivergence(
    student: TensorHandle,
    teacher: TensorHandle,
    temperature: number,
    wantsGradient: boolean,
  ): [divergences: TensorHandle, gradient: TensorHandle | undefined];
  scaleSequences(x: TensorHandle, offsets: TensorHandle, factors: TensorHandle): void;
}

const native = addon as DivergenceBindings;

export interface SoftmaxDivergenceOptions {
  /** Both logits are divided by it; the result is multiplied by its square, so that gradients keep their size. Default 1. */
  readonly temperature?: number;
  /** (rows) not negative: the result is the mean of the rows' divergences with these weights. Default: all equal. */
  readonly weights?: Float32Array;
}

/**
 * `temperature² * KL(softmax(teacher / temperature) || softmax(student / temperature))`, the mean over rows. Differentiable in the
 * student. Zero when all weights are. Of a student on the GPU it is computed on the CPU: its logits, and their gradient, are copied.
 * @param student logits (rows, columns)
 * @param teacher logits (rows, columns)
 * @returns float32 (1)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 *
 * @example
 * const loss = scaledSum(ctc, 1, softmaxDivergence(studentLogits, teacherLogits, { temperature: 2 }), 0.5);
 */
export function softmaxDivergence(student: Tensor, teacher: Tensor, { temperature = 1, weights }: SoftmaxDivergenceOptions = {}): Tensor {
  const rows = student.dim(0);
  if (weights && weights.length !== rows) {
    throw new UsmLiteError("INVALID_ARGUMENT", `softmaxDivergence: there are ${rows} rows but ${weights.length} weights`);
  }
  const [studentLogits, teacherLogits] = [student, teacher].map((logits) => (logits instanceof DeviceTensor ? logits.toTensor() : logits)) as [Tensor, Tensor];
  const [divergenceHandle, gradientHandle] = native.softmaxDivergence(studentLogits.handle, teacherLogits.handle, temperature, isRecording([student]));
  using divergences = new Tensor(divergenceHandle);
  const total = weights ? weights.reduce((sum, weight) => sum + weight, 0) : rows;
  const factor = (row: number): number => (total > 0 ? (weights ? (weights[row] as number) : 1) / total : 0);
  // A row of weight zero takes no part, whatever it holds.
  const mean = divergences.toArray().reduce((sum, value, row) => sum + (factor(row) > 0 ? value * factor(row) : 0), 0);
  const onGpu = student instanceof DeviceTensor;
  const value = Tensor.from([temperature ** 2 * mean]);
  const output = onGpu ? DeviceTensor.from(value, "float32") : value;
  if (!gradientHandle) return output;
  const logitsGradient = new Tensor(gradientHandle);
  return recordStep(output, [student], (gradient, tape) => {
    const upstream = temperature * (gradient.toArray()[0] as number);
    const each = new SequenceOffsets(new Array<number>(rows).fill(1));
    const factors = Tensor.from(Float32Array.from({ length: rows }, (_, row) => upstream * factor(row)));
    native.scaleSequences(logitsGradient.handle, each.tensor.handle, factors.handle);
    tape.accumulate(student, onGpu ? DeviceTensor.from(logitsGradient) : logitsGradient);
  });
}
