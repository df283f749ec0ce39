/** The CTC loss of logits on the GPU, which stays there: nothing is waited for. */
import { deviceCtcLoss, deviceScaleSequences, deviceWeightedSum } from "../device/ctc_loss.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { sequencesOnGpu } from "../device/placement.js";
import { UsmLiteError } from "../errors.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import type { CtcLossOptions, CtcLossResult } from "./ctc_loss.js";
import { isRecording, recordStep } from "./tape.js";

/** @throws UsmLiteError INVALID_ARGUMENT as {@link ctcLoss}, and without a reduction */
export function ctcLossOnGpu(
  logits: DeviceTensor,
  offsets: SequenceOffsets,
  targets: readonly (readonly number[])[],
  { blank = 0, zeroInfinity = true, reduction = "mean" }: CtcLossOptions,
): CtcLossResult {
  if (reduction === "none") throw new UsmLiteError("INVALID_ARGUMENT", "ctcLoss: on the GPU losses are reduced, by mean or sum");
  const sequences = sequencesOnGpu(offsets);
  const { losses, gradient: logitsGradient } = deviceCtcLoss(logits, sequences, targets, { blank, wantsGradient: isRecording([logits]) });
  using factors = Tensor.from(
    Float32Array.from(targets, ({ length }) => (reduction === "mean" ? 1 / (Math.max(length, 1) * targets.length) : 1)),
  );
  const weights = DeviceTensor.from(factors, "float32");
  const loss = deviceWeightedSum(losses, weights, zeroInfinity);
  const infeasible = targets.filter((labels, index) => framesNeeded(labels) > (offsets.lengths[index] as number)).length;
  if (logitsGradient) {
    recordStep(loss, [logits], (gradient, tape) => {
      deviceScaleSequences(logitsGradient, sequences, weights, onGpu(gradient, "gradient"));
      tape.accumulate(logits, logitsGradient);
    });
  }
  return { loss, infeasible };
}

/** A blank must lie between equal labels. */
const framesNeeded = (labels: readonly number[]): number =>
  labels.length + labels.filter((label, i) => i > 0 && label === labels[i - 1]).length;
