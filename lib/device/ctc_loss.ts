/** Connectionist temporal classification (Graves et al., ICML 2006) on the GPU. */
import { UsmLiteError } from "../errors.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import type { DeviceSequences, DeviceSequencesHandle } from "./device_sequences.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface DeviceCtcBindings {
  deviceCtcLoss(
    logits: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    targets: TensorHandle,
    targetOffsets: TensorHandle,
    blank: number,
    wantsGradient: boolean,
    stream?: StreamHandle,
  ): [losses: DeviceTensorHandle, gradient?: DeviceTensorHandle];
  deviceScaleSequences(
    x: DeviceTensorHandle,
    sequences: DeviceSequencesHandle,
    factors: DeviceTensorHandle,
    upstream: DeviceTensorHandle,
    stream?: StreamHandle,
  ): void;
  deviceWeightedSum(
    values: DeviceTensorHandle,
    weights: DeviceTensorHandle,
    zeroInfinity: boolean,
    stream?: StreamHandle,
  ): DeviceTensorHandle;
}

const native = (): DeviceCtcBindings => gpuAddon<DeviceCtcBindings>();

/** What {@link deviceCtcLoss} may be told. */
export interface DeviceCtcLossOptions {
  /** Label of the blank; default 0. */
  readonly blank?: number;
  /** Whether the gradient is computed too; default false. */
  readonly wantsGradient?: boolean;
  readonly stream?: DeviceStream | undefined;
}

/** Losses of {@link deviceCtcLoss}, and their gradient where it was wanted. */
export interface DeviceCtcLoss {
  /** float32 (sequences): infinity where no alignment fits into the frames, NaN where a logit is not finite. */
  readonly losses: DeviceTensor;
  /**
   * (frames, vocabulary) of the logits' type: of each sequence's own loss, softmax minus posterior; zeros where the loss is infinite.
   */
  readonly gradient: DeviceTensor | undefined;
}

/**
 * -log p(targets | logits), summed over all alignments, with log-softmax included, and its exact gradient: what {@link ctcLoss} computes,
 * in float32. The same bits every time; nothing is waited for.
 *
 * @param logits (frames, vocabulary), before softmax: bfloat16 or float32
 * @param targets labels of each sequence, without blanks; may be empty
 * @throws UsmLiteError INVALID_ARGUMENT for labels outside the vocabulary or equal to the blank, or when the number of targets differs from
 *   that of the sequences; UNSUPPORTED_SPEC for transcripts of more labels than fit into shared memory (thousands)
 *
 * @example
 * const { losses, gradient } = deviceCtcLoss(logits, sequences, [[5, 7], [2]], { wantsGradient: true });
 */
export function deviceCtcLoss(
  logits: DeviceTensor,
  sequences: DeviceSequences,
  targets: readonly (readonly number[])[],
  { blank = 0, wantsGradient = false, stream }: DeviceCtcLossOptions = {},
): DeviceCtcLoss {
  if (targets.length !== sequences.lengths.length) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `deviceCtcLoss: there are ${sequences.lengths.length} sequences of logits but ${targets.length} targets`,
    );
  }
  const offsets = new SequenceOffsets(targets.map((labels) => labels.length));
  const labels = Tensor.from(Int32Array.from(targets.flat()));
  const [losses, gradient] = native().deviceCtcLoss(
    logits.handle,
    sequences.handle,
    labels.handle,
    offsets.tensor.handle,
    blank,
    wantsGradient,
    stream?.handle,
  );
  labels.dispose();
  offsets.tensor.dispose();
  return { losses: new DeviceTensor(losses), gradient: gradient && new DeviceTensor(gradient) };
}

/**
 * `x *= factors[sequence] * upstream[0]`, in place: what carries the gradient of a sum of losses back to each.
 * @param x (frames, columns), bfloat16 or float32
 * @param factors float32 (sequences)
 * @param upstream float32 (1)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const { losses, gradient } = deviceCtcLoss(logits, sequences, targets, { wantsGradient: true });
 * const sum = deviceWeightedSum(losses, factors, true);
 * if (gradient) deviceScaleSequences(gradient, sequences, factors, DeviceTensor.from(Tensor.from([1]), "float32")); // that of sum
 */
export function deviceScaleSequences(
  x: DeviceTensor,
  sequences: DeviceSequences,
  factors: DeviceTensor,
  upstream: DeviceTensor,
  stream?: DeviceStream,
): void {
  native().deviceScaleSequences(x.handle, sequences.handle, factors.handle, upstream.handle, stream?.handle);
}

/**
 * The sum of values times weights, added in an order that is always the same.
 * @param values float32 (n)
 * @param weights float32 (n)
 * @param zeroInfinity whether infinite values count nothing
 * @returns float32 (1)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const { losses } = deviceCtcLoss(logits, sequences, targets);
 * const sum = deviceWeightedSum(losses, factors, true).toArray()[0];
 */
export function deviceWeightedSum(values: DeviceTensor, weights: DeviceTensor, zeroInfinity: boolean, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceWeightedSum(values.handle, weights.handle, zeroInfinity, stream?.handle));
}
