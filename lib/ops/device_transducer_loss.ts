/** The loss of a transducer whose encoder's and prediction network's outputs are on the GPU, which stays there: nothing is waited for. */
import { deviceWeightedSum } from "../device/ctc_loss.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceTransducerLoss, deviceTransducerLossBackward, type DeviceTransducerBatch } from "../device/transducer_training.js";
import { UsmLiteError } from "../errors.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import { wants } from "./gradients.js";
import { isRecording, recordStepOf, type Tape } from "./tape.js";
import { hasPath, sequenceWeights } from "./transducer_batch.js";
import type { Joint, TransducerLossOptions, TransducerLossResult } from "./transducer_loss.js";

/**
 * @param frames bfloat16 (frames, joint)
 * @param predictions bfloat16 (labels + sequences, joint)
 * @throws UsmLiteError INVALID_ARGUMENT as {@link transducerLoss}, without a reduction, and for operands on the CPU; UNSUPPORTED_SPEC for more
 *   than 16 durations
 */
export function transducerLossOnGpu(
  frames: DeviceTensor,
  offsets: SequenceOffsets,
  predictions: Tensor,
  targets: readonly (readonly number[])[],
  { weight, bias }: Joint,
  { blank, durations = [], undernormalization = 0, zeroInfinity = true, reduction = "mean-volume", teacher }: TransducerLossOptions,
): TransducerLossResult {
  if (reduction === "none")
    throw new UsmLiteError("INVALID_ARGUMENT", "transducerLoss: on the GPU losses are reduced, by mean, mean-volume or sum");
  const inputs = [frames, predictions, weight, bias];
  const matrix = onGpu(weight, "weight");
  const narrow = matrix.type === "bfloat16" ? matrix : matrix.cast("bfloat16");
  const batch: DeviceTransducerBatch = {
    frames,
    offsets,
    predictions: onGpu(predictions, "predictions"),
    predictionOffsets: new SequenceOffsets(targets.map((labels) => labels.length + 1)),
    weight: narrow,
    bias: onGpu(bias, "bias"),
    targets: Tensor.from(Int32Array.from(targets.flat())),
    blank,
    durations,
    undernormalization,
    teacher: teacher && onGpu(teacher, "teacher"),
  };
  const results = deviceTransducerLoss(batch);
  const factors = vector(sequenceWeights(targets, reduction));
  const loss = deviceWeightedSum(results.losses, factors, zeroInfinity);
  const mean = vector(targets.map(() => 1 / targets.length));
  const divergence = results.divergences && deviceWeightedSum(results.divergences, mean, false);
  if (narrow !== matrix && !isRecording(inputs)) narrow.dispose();
  recordStepOf(divergence ? [loss, divergence] : [loss], inputs, ([upstream, divergenceUpstream], tape) => {
    accumulateWeight(tape, weight, (weightGradient) => {
      const gradients = deviceTransducerLossBackward(batch, results, {
        factors,
        upstream: upstream && onGpu(upstream, "gradient"),
        divergenceUpstream: divergenceUpstream && onGpu(divergenceUpstream, "gradient"),
        divergenceFactor: 1 / targets.length,
        wantsRows: wants(frames) || wants(predictions),
        wantsBias: wants(bias),
        weightGradient,
      });
      if (gradients.frames) tape.accumulate(frames, gradients.frames);
      if (gradients.predictions) tape.accumulate(predictions, gradients.predictions);
      if (gradients.bias) tape.accumulate(bias, gradients.bias);
    });
  });
  const infeasible = targets.filter((labels, index) => !hasPath(offsets.lengths[index] as number, labels.length, durations)).length;
  return { loss, infeasible, lattice: results.lattice, ...(divergence ? { divergence } : {}) };
}

const vector = (values: readonly number[]): DeviceTensor => {
  using onCpu = Tensor.from(Float32Array.from(values));
  return DeviceTensor.from(onCpu, "float32");
};

/** Has `add` add to the float32 gradient of `weight`, where that is wanted. */
function accumulateWeight(tape: Tape, weight: Tensor, add: (gradient: DeviceTensor | undefined) => void): void {
  if (!wants(weight)) return add(undefined);
  const sum = tape.gradientOf(weight);
  if (sum) return add(onGpu(sum, "the gradient"));
  const fresh = DeviceTensor.zeros(weight.shape, "float32");
  add(fresh);
  tape.accumulate(weight, fresh);
}
