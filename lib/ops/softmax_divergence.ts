/** How far a student's distributions are from a teacher's (Hinton, Vinyals, Dean 2015). */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceMeanDivergence, deviceScaleRows, deviceSoftmaxDivergence } from "../device/softmax_divergence.js";
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

/** What {@link softmaxDivergence} may be told. */
export interface SoftmaxDivergenceOptions {
  /** Both logits are divided by it; the result is multiplied by its square, so that gradients keep their size. Default 1. */
  readonly temperature?: number;
  /** (rows) not negative: the result is the mean of the rows' divergences with these weights. Default: all equal. On the GPU for logits there. */
  readonly weights?: Float32Array | DeviceTensor;
}

/**
 * `temperature² * KL(softmax(teacher / temperature) || softmax(student / temperature))`, the mean over rows. Differentiable in the
 * student. Zero when all weights are.
 * @param student logits (rows, columns)
 * @param teacher logits (rows, columns)
 * @returns float32 (1), where the logits are: those on the GPU are not waited for
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 *
 * @example
 * const loss = scaledSum(ctc, 1, softmaxDivergence(studentLogits, teacherLogits, { temperature: 2 }), 0.5);
 */
export function softmaxDivergence(student: Tensor, teacher: Tensor, { temperature = 1, weights }: SoftmaxDivergenceOptions = {}): Tensor {
  const rows = student.dim(0);
  const given = weights instanceof DeviceTensor ? weights.size : weights?.length;
  if (given !== undefined && given !== rows) {
    throw new UsmLiteError("INVALID_ARGUMENT", `softmaxDivergence: there are ${rows} rows but ${given} weights`);
  }
  if (student instanceof DeviceTensor) return divergenceOnGpu(student, onGpu(teacher, "teacher"), temperature, weights);
  if (weights instanceof DeviceTensor) {
    throw new UsmLiteError("INVALID_ARGUMENT", "softmaxDivergence: the logits are on the CPU but the weights on the GPU");
  }
  const wantsGradient = isRecording([student]);
  const [divergencesHandle, gradientHandle] = native.softmaxDivergence(student.handle, teacher.handle, temperature, wantsGradient);
  using divergences = new Tensor(divergencesHandle);
  const total = weights ? weights.reduce((sum, weight) => sum + weight, 0) : rows;
  const factor = (row: number): number => (total > 0 ? (weights ? (weights[row] as number) : 1) / total : 0);
  // A row of weight zero takes no part, whatever it holds.
  const mean = divergences.toArray().reduce((sum, value, row) => sum + (factor(row) > 0 ? value * factor(row) : 0), 0);
  const output = Tensor.from([temperature ** 2 * mean]);
  if (!gradientHandle) return output;
  const logitsGradient = new Tensor(gradientHandle);
  return recordStep(output, [student], (gradient, tape) => {
    const all = gradient.toArray()[0] as number;
    const each = new SequenceOffsets(Array.from({ length: rows }, () => 1));
    const factors = Float32Array.from({ length: rows }, (_, row) => all * temperature * factor(row));
    native.scaleSequences(logitsGradient.handle, each.tensor.handle, Tensor.from(factors).handle);
    tape.accumulate(student, logitsGradient);
  });
}

function divergenceOnGpu(student: DeviceTensor, teacher: DeviceTensor, temperature: number, weights?: Float32Array | DeviceTensor): Tensor {
  const wantsGradient = isRecording([student]);
  const { divergences, gradient: logitsGradient } = deviceSoftmaxDivergence(student, teacher, { temperature, wantsGradient });
  const placed = weights instanceof Float32Array ? DeviceTensor.from(Tensor.from(weights), "float32") : weights;
  const { mean, shares } = deviceMeanDivergence(divergences, placed, temperature ** 2);
  divergences.dispose();
  if (!logitsGradient) return mean;
  return recordStep(mean, [student], (gradient, tape) => {
    deviceScaleRows(logitsGradient, shares, onGpu(gradient, "gradient"), temperature);
    tape.accumulate(student, logitsGradient);
  });
}
