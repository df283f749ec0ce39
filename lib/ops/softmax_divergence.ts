/** How far a student's distributions are from a teacher's (Hinton, Vinyals, Dean 2015). */
import { deviceScaleSequences } from "../device/ctc_loss.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import { deviceSoftmaxDivergence } from "../device/softmax_divergence.js";
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
  /** (rows) not negative: the result is the mean of the rows' divergences with these weights. Default: all equal. */
  readonly weights?: Float32Array;
}

/**
 * `temperature² * KL(softmax(teacher / temperature) || softmax(student / temperature))`, the mean over rows. Differentiable in the
 * student. Zero when all weights are.
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
  const { divergences, gradient: logitsGradient } = rowsOf(student, teacher, temperature);
  const total = weights ? weights.reduce((sum, weight) => sum + weight, 0) : rows;
  const factor = (row: number): number => (total > 0 ? (weights ? (weights[row] as number) : 1) / total : 0);
  // A row of weight zero takes no part, whatever it holds.
  const mean = divergences.toArray().reduce((sum, value, row) => sum + (factor(row) > 0 ? value * factor(row) : 0), 0);
  divergences.dispose();
  const value = Tensor.from([temperature ** 2 * mean]);
  const output = student instanceof DeviceTensor ? DeviceTensor.from(value, "float32") : value;
  if (!logitsGradient) return output;
  return recordStep(output, [student], (gradient, tape) => {
    scaleRows(
      logitsGradient,
      Float32Array.from({ length: rows }, (_, row) => temperature * factor(row)),
      gradient,
    );
    tape.accumulate(student, logitsGradient);
  });
}

/** Divergences of the rows, without the square of the temperature, and where a tape records their gradients times it. */
function rowsOf(student: Tensor, teacher: Tensor, temperature: number): { divergences: Tensor; gradient: Tensor | undefined } {
  const wantsGradient = isRecording([student]);
  if (student instanceof DeviceTensor) return deviceSoftmaxDivergence(student, onGpu(teacher, "teacher"), { temperature, wantsGradient });
  const [divergences, gradient] = native.softmaxDivergence(student.handle, teacher.handle, temperature, wantsGradient);
  return { divergences: new Tensor(divergences), gradient: gradient && new Tensor(gradient) };
}

/** `x[row] *= factors[row] * upstream` */
function scaleRows(x: Tensor, factors: Float32Array, upstream: Tensor): void {
  const each = new SequenceOffsets(Array.from(factors, () => 1));
  if (x instanceof DeviceTensor) {
    return deviceScaleSequences(x, sequencesOnGpu(each), DeviceTensor.from(Tensor.from(factors), "float32"), onGpu(upstream, "gradient"));
  }
  const all = upstream.toArray()[0] as number;
  native.scaleSequences(x.handle, each.tensor.handle, Tensor.from(factors.map((factor) => all * factor)).handle);
}
