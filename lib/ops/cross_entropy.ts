/** Cross-entropy of the next token: what sequence-to-sequence models are trained with. */
import { deviceScaleSequences, deviceWeightedSum } from "../device/ctc_loss.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import { deviceCrossEntropy } from "../device/sequence_training.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { isRecording, recordStep } from "./tape.js";

interface CrossEntropyBindings {
  crossEntropy(
    logits: TensorHandle,
    labels: TensorHandle,
    smoothing: number,
    wantsGradient: boolean,
  ): [losses: TensorHandle, gradient: TensorHandle | undefined];
  scaleSequences(x: TensorHandle, offsets: TensorHandle, factors: TensorHandle): void;
}

const native = addon as CrossEntropyBindings;

/** The label of rows that do not count: padding, or a prompt. */
export const ignoredLabel = -1;

export interface CrossEntropyOptions {
  /** Share of each label's probability that is spread over all columns alike (Szegedy et al. 2016), from 0, the default, below 1. */
  readonly labelSmoothing?: number;
}

/**
 * `-sum q ln softmax(logits)`, the mean over the rows that count; 0 when none does. q is 1 at the label, less what is smoothed away.
 * @param logits (rows, columns), finite; other values give NaN
 * @param labels a column for each row, or {@link ignoredLabel}
 * @returns float32 (1), where the logits are: those on the GPU are not waited for
 * @throws UsmLiteError INVALID_ARGUMENT for a label beyond the columns, or when there are more or fewer labels than rows
 *
 * @example
 * const loss = crossEntropy(logits, labels, { labelSmoothing: 0.1 });
 */
export function crossEntropy(logits: Tensor, labels: readonly number[], { labelSmoothing = 0 }: CrossEntropyOptions = {}): Tensor {
  if (labels.some((label) => label < ignoredLabel)) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `crossEntropy: label ${Math.min(...labels)} is no column; ${ignoredLabel} is for rows that do not count`,
    );
  }
  if (!(labelSmoothing >= 0 && labelSmoothing < 1)) {
    throw new UsmLiteError("INVALID_ARGUMENT", `crossEntropy: labelSmoothing is ${labelSmoothing}; it must be at least 0 and below 1`);
  }
  using wanted = Tensor.from(Int32Array.from(labels));
  const counted = Math.max(labels.filter((label) => label !== ignoredLabel).length, 1);
  if (logits instanceof DeviceTensor) return crossEntropyOnGpu(logits, wanted, labelSmoothing, counted);
  const [lossesHandle, gradientHandle] = native.crossEntropy(logits.handle, wanted.handle, labelSmoothing, isRecording([logits]));
  using losses = new Tensor(lossesHandle);
  const output = Tensor.from([losses.toArray().reduce((sum, loss) => sum + loss, 0) / counted]);
  if (!gradientHandle) return output;
  const logitsGradient = new Tensor(gradientHandle);
  return recordStep(output, [logits], (gradient, tape) => {
    const all = new SequenceOffsets([labels.length]);
    const factor = Tensor.from([(gradient.toArray()[0] as number) / counted]);
    native.scaleSequences(logitsGradient.handle, all.tensor.handle, factor.handle);
    tape.accumulate(logits, logitsGradient);
  });
}

/** @param counted rows that have a label, at least 1 */
function crossEntropyOnGpu(logits: DeviceTensor, labels: Tensor, labelSmoothing: number, counted: number): Tensor {
  const rows = logits.dim(0);
  const { losses, gradient: logitsGradient } = deviceCrossEntropy(logits, labels, {
    labelSmoothing,
    factor: 1 / counted,
    wantsGradient: isRecording([logits]),
  });
  using shares = Tensor.from(new Float32Array(rows).fill(1 / counted));
  const output = deviceWeightedSum(losses, DeviceTensor.from(shares, "float32"), false);
  if (!logitsGradient) return output;
  return recordStep(output, [logits], (gradient, tape) => {
    deviceScaleSequences(
      logitsGradient,
      sequencesOnGpu(new SequenceOffsets([rows])),
      DeviceTensor.from(Tensor.from([1]), "float32"),
      onGpu(gradient, "gradient"),
    );
    tape.accumulate(logits, logitsGradient);
  });
}
