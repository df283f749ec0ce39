/**
 * What training of transducers does on the GPU besides what all models do: pure functions, as those of gradient_operations.ts. Nothing is
 * waited for.
 */
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor, TensorHandle } from "../tensor/tensor.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

type LossOperands = [
  frames: DeviceTensorHandle,
  offsets: TensorHandle,
  predictions: DeviceTensorHandle,
  predictionOffsets: TensorHandle,
  weight: DeviceTensorHandle,
  bias: DeviceTensorHandle,
  targets: TensorHandle,
  blank: number,
  durations: readonly number[],
  undernormalization: number,
  teacher: DeviceTensorHandle | undefined,
  slabRows: number,
];

interface TransducerTrainingBindings {
  deviceLstmSequence(
    inputs: DeviceTensorHandle,
    recurrent: DeviceTensorHandle,
    offsets: TensorHandle,
  ): [hidden: DeviceTensorHandle, previous: DeviceTensorHandle, cells: DeviceTensorHandle, gates: DeviceTensorHandle];
  deviceLstmSequenceBackward(
    recurrent: DeviceTensorHandle,
    offsets: TensorHandle,
    hidden: DeviceTensorHandle,
    previous: DeviceTensorHandle,
    cells: DeviceTensorHandle,
    gates: DeviceTensorHandle,
    gradient: DeviceTensorHandle,
  ): DeviceTensorHandle;
  deviceTransducerLoss(
    ...operands: LossOperands
  ): [
    losses: DeviceTensorHandle,
    lattice: DeviceTensorHandle,
    divergences: DeviceTensorHandle | undefined,
    shares: DeviceTensorHandle | undefined,
  ];
  deviceTransducerLossBackward(
    ...operands: [
      ...LossOperands,
      losses: DeviceTensorHandle,
      lattice: DeviceTensorHandle,
      shares: DeviceTensorHandle | undefined,
      factors: DeviceTensorHandle,
      upstream: DeviceTensorHandle | undefined,
      divergenceUpstream: DeviceTensorHandle | undefined,
      divergenceFactor: number,
      wantsRows: boolean,
      weightGradient: DeviceTensorHandle | undefined,
      wantsBias: boolean,
    ]
  ): [frames: DeviceTensorHandle | undefined, predictions: DeviceTensorHandle | undefined, bias: DeviceTensorHandle | undefined];
}

const native = (): TransducerTrainingBindings => gpuAddon<TransducerTrainingBindings>();

/** Of a long short-term memory layer, a row for each row of its inputs. */
export interface DeviceLstmStates {
  /** bfloat16 (rows, hidden), after the row. */
  readonly hidden: DeviceTensor;
  /** The same before the row: zeros at the first of a sequence. */
  readonly previous: DeviceTensor;
  /** float32 (rows, hidden), after the row. */
  readonly cells: DeviceTensor;
  /** bfloat16 (rows, 4 * hidden): the sums that the gates see. */
  readonly gates: DeviceTensor;
}

/**
 * What {@link lstmSequence} computes.
 * @param inputs bfloat16 (rows, 4 * hidden)
 * @param recurrent bfloat16 (4 * hidden, hidden)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 */
export function deviceLstmSequence(inputs: DeviceTensor, recurrent: DeviceTensor, offsets: SequenceOffsets): DeviceLstmStates {
  const [hidden, previous, cells, gates] = native().deviceLstmSequence(inputs.handle, recurrent.handle, offsets.tensor.handle);
  return {
    hidden: new DeviceTensor(hidden),
    previous: new DeviceTensor(previous),
    cells: new DeviceTensor(cells),
    gates: new DeviceTensor(gates),
  };
}

/** From the gradient of `hidden`, bfloat16, that of `inputs`; its transpose times `previous` is that of `recurrent`. */
export function deviceLstmSequenceBackward(
  { hidden, previous, cells, gates }: DeviceLstmStates,
  recurrent: DeviceTensor,
  offsets: SequenceOffsets,
  gradient: DeviceTensor,
): DeviceTensor {
  return new DeviceTensor(
    native().deviceLstmSequenceBackward(
      recurrent.handle,
      offsets.tensor.handle,
      hidden.handle,
      previous.handle,
      cells.handle,
      gates.handle,
      gradient.handle,
    ),
  );
}

/** A batch for {@link deviceTransducerLoss}. */
export interface DeviceTransducerBatch {
  /** bfloat16 (frames, joint) */
  readonly frames: DeviceTensor;
  readonly offsets: SequenceOffsets;
  /** bfloat16 (labels + sequences, joint) */
  readonly predictions: DeviceTensor;
  readonly predictionOffsets: SequenceOffsets;
  /** bfloat16 (vocabulary + durations, joint) */
  readonly weight: DeviceTensor;
  /** float32 (vocabulary + durations) */
  readonly bias: DeviceTensor;
  /** int32, of all sequences, on the CPU. */
  readonly targets: Tensor;
  readonly blank: number;
  /** Up to 16. */
  readonly durations: readonly number[];
  readonly undernormalization: number;
  /** {@link DeviceTransducerLosses.lattice} of a teacher, without undernormalization. */
  readonly teacher?: DeviceTensor | undefined;
  /** Pairs of a frame and a prefix whose logits are held at a time, about; default 0: as many as make 32 MB. */
  readonly slabRows?: number;
}

/** float32 vectors. */
export interface DeviceTransducerLosses {
  /** Of each sequence: infinity when no path fits, NaN when a logit is not finite. */
  readonly losses: DeviceTensor;
  /** For each pair logarithms of the probabilities of blank, next label and durations. */
  readonly lattice: DeviceTensor;
  /** Of each sequence, with a teacher. */
  readonly divergences: DeviceTensor | undefined;
  /** For each pair, with a teacher: of its paths that pass through. */
  readonly shares: DeviceTensor | undefined;
}

const operandsOf = (batch: DeviceTransducerBatch): LossOperands => [
  batch.frames.handle,
  batch.offsets.tensor.handle,
  batch.predictions.handle,
  batch.predictionOffsets.tensor.handle,
  batch.weight.handle,
  batch.bias.handle,
  batch.targets.handle,
  batch.blank,
  batch.durations,
  batch.undernormalization,
  batch.teacher?.handle,
  batch.slabRows ?? 0,
];

const placed = (handle: DeviceTensorHandle | undefined): DeviceTensor | undefined => handle && new DeviceTensor(handle);

/**
 * Losses of {@link transducerLoss} before they are reduced. The same bits every time.
 * @throws UsmLiteError INVALID_ARGUMENT as there; UNSUPPORTED_SPEC for more than 16 durations
 */
export function deviceTransducerLoss(batch: DeviceTransducerBatch): DeviceTransducerLosses {
  const [losses, lattice, divergences, shares] = native().deviceTransducerLoss(...operandsOf(batch));
  return {
    losses: new DeviceTensor(losses),
    lattice: new DeviceTensor(lattice),
    divergences: placed(divergences),
    shares: placed(shares),
  };
}

/** What the gradient of `sum_i factors[i] upstream losses[i] + divergenceFactor divergenceUpstream divergences[i]` is asked for. */
export interface DeviceTransducerSeeds {
  /** float32 (sequences) */
  readonly factors: DeviceTensor;
  /** float32 (1); absent: 0. */
  readonly upstream: DeviceTensor | undefined;
  /** float32 (1); absent: 0. */
  readonly divergenceUpstream: DeviceTensor | undefined;
  readonly divergenceFactor: number;
  /** Whether the gradients of frames and predictions are. */
  readonly wantsRows: boolean;
  readonly wantsBias: boolean;
  /** float32, which the gradient of the weight is added to. */
  readonly weightGradient: DeviceTensor | undefined;
}

/** bfloat16 gradients of frames and predictions, and float32 of the bias. Sequences without a path give none. */
export function deviceTransducerLossBackward(
  batch: DeviceTransducerBatch,
  { losses, lattice, shares }: DeviceTransducerLosses,
  seeds: DeviceTransducerSeeds,
): { frames: DeviceTensor | undefined; predictions: DeviceTensor | undefined; bias: DeviceTensor | undefined } {
  const [frames, predictions, bias] = native().deviceTransducerLossBackward(
    ...operandsOf(batch),
    losses.handle,
    lattice.handle,
    shares?.handle,
    seeds.factors.handle,
    seeds.upstream?.handle,
    seeds.divergenceUpstream?.handle,
    seeds.divergenceFactor,
    seeds.wantsRows,
    seeds.weightGradient?.handle,
    seeds.wantsBias,
  );
  return { frames: placed(frames), predictions: placed(predictions), bias: placed(bias) };
}
