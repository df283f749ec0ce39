/**
 * The parts of a model on the GPU: weights and biases go there when an operation first meets them with activations that
 * are there, and stay as long as the model.
 */
import { UsmLiteError } from "../errors.js";
import { packWeight } from "../quant/packed_weight.js";
import { PackedMatrix } from "../quant/packed_matrix.js";
import { keep, tidy } from "../tensor/scope.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { weightMatrix } from "../quant/weight_matrix.js";
import { Tensor } from "../tensor/tensor.js";
import { DeviceSequences } from "./device_sequences.js";
import { DeviceTensor } from "./device_tensor.js";
import { DeviceWeight } from "./device_weight.js";
import { GroupedWeight } from "./grouped_weight.js";

const weights = new WeakMap<Tensor, DeviceWeight>();
const vectors = { float32: new WeakMap<Tensor, DeviceTensor>(), bfloat16: new WeakMap<Tensor, DeviceTensor>() };
const biases = new WeakMap<Tensor, DeviceTensor>();
const stackedBiases = new WeakMap<Tensor, DeviceTensor>();
const groupedWeights = new WeakMap<Tensor, GroupedWeight>();
const sequences = new WeakMap<SequenceOffsets, DeviceSequences>();

/** What `map` has for `key`, made when it has nothing. */
function once<Key extends object, Value>(map: WeakMap<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

/** `x` for an operation of the CPU; waits for the GPU where it comes from there, and takes it from there. */
export function onCpu(x: Tensor): Tensor {
  if (!(x instanceof DeviceTensor)) return x;
  const values = x.toTensor();
  x.dispose();
  return values;
}

/** `x`, copied to the GPU unless it is to stay or is there. */
export const onDevice = (x: Tensor, device: "cpu" | "cuda"): Tensor =>
  device === "cpu" || x instanceof DeviceTensor ? x : DeviceTensor.from(x);

/** The features that a network takes, (frames, feature size), likewise; samples, which are frames of one value, become a float32 vector. */
export function featuresOnDevice(features: Tensor, device: "cpu" | "cuda"): Tensor {
  if (device === "cpu" || features.shape[1] !== 1) return onDevice(features, device);
  using samples = features.reshape([features.dim(0)]);
  return DeviceTensor.from(samples, "float32");
}

/** Float32 features on the GPU as networks take them there: rounded to bfloat16, but for samples, which are a vector. */
export const roundedFeatures = (features: DeviceTensor): DeviceTensor =>
  features.shape.length === 1 ? features : features.cast("bfloat16");

/** Gives back what a weight or vector has on the GPU; nothing happens for one that has nothing there. */
export function removeFromGpu(weight: Tensor): void {
  for (const map of [weights, vectors.float32, vectors.bfloat16, biases, stackedBiases, groupedWeights]) {
    map.get(weight)?.dispose();
    map.delete(weight);
  }
}

/**
 * A linear weight on the GPU: float weights (out, in) or (out, in, kernel), of which all but two extents may be 1, are rounded to bfloat16.
 * Columns are filled up with zeros to a multiple of 8, as windows of activations are.
 * @throws UsmLiteError INVALID_ARGUMENT for a packed weight that is on the CPU
 */
export function weightOnGpu(weight: Tensor | PackedMatrix | DeviceWeight): DeviceWeight {
  if (weight instanceof DeviceWeight) return weight;
  if (weight instanceof PackedMatrix) {
    throw new UsmLiteError("INVALID_ARGUMENT", 'a packed weight is not on the GPU; load the model with device "cuda"');
  }
  return once(weights, weight, () =>
    tidy(() =>
      DeviceWeight.from(packWeight(widened(weight.shape.length > 3 ? weight.reshape(weight.shape.slice(0, 3)) : weight), "float32")),
    ),
  );
}

/** The same weight, or if the columns of its matrix are no multiple of 8 that matrix with columns of zeros behind. */
function widened(weight: Tensor): Tensor {
  const matrix = weightMatrix(weight);
  const [rows, columns] = matrix.shape as [number, number];
  const wide = Math.ceil(columns / 8) * 8;
  if (wide === columns) return weight;
  const [values, padded] = [matrix.toArray(), new Float32Array(rows * wide)];
  for (let row = 0; row < rows; row++) padded.set(values.subarray(row * columns, (row + 1) * columns), row * wide);
  return Tensor.from(padded, [rows, wide]);
}

/**
 * The weights of layers with the same input, one below the other as one; undefined where they are not of one kind. They move on the GPU the first time,
 * so this comes before work that multiplies by them is recorded. What it returns goes with the first of them.
 */
export function stackedOnGpu(weights: readonly (Tensor | PackedMatrix | DeviceWeight)[]): DeviceWeight | undefined {
  if (weights.some((weight) => weight instanceof PackedMatrix || weight instanceof DeviceTensor)) return undefined;
  const placed = weights.map(weightOnGpu);
  return DeviceWeight.canStack(placed) ? DeviceWeight.stackOnce(placed) : undefined;
}

/** Biases of such layers, of which some may have none, one after the other. */
export function stackedBiasOnGpu(
  layers: readonly { readonly rows: number; readonly bias: Tensor | undefined }[],
  weight: DeviceWeight,
): DeviceTensor | undefined {
  const first = layers.find(({ bias }) => bias)?.bias;
  return (
    first &&
    once(stackedBiases, first, () => {
      const values = layers.map(({ rows, bias }) => bias?.toArray() ?? new Float32Array(rows));
      using bias = Tensor.from(Float32Array.from(values.flatMap((part) => [...part])), [weight.rows]);
      return keep(weight.arrangeBias(bias));
    })
  );
}

/** The weight (out, kernel, in / groups) and the bias of a convolution in groups on the GPU. */
export const groupedWeightOnGpu = (weight: Tensor, bias: Tensor, groups: number): GroupedWeight =>
  once(groupedWeights, weight, () => GroupedWeight.place(weight, bias, groups));

/** A bias on the GPU, in the order of its weight. */
export const biasOnGpu = (bias: Tensor | undefined, weight: DeviceWeight): DeviceTensor | undefined =>
  bias && once(biases, bias, () => keep(weight.arrangeBias(bias)));

/** The float32 weights of a norm or a depthwise convolution on the GPU: a vector, or a matrix with all axes after the first in one. */
export const vectorOnGpu = (values: Tensor): DeviceTensor =>
  values instanceof DeviceTensor
    ? values
    : once(vectors.float32, values, () => {
        const [first = 0, ...others] = values.shape;
        using matrix = values.reshape(others.length ? [first, others.reduce((product, extent) => product * extent, 1)] : [first]);
        return keep(DeviceTensor.from(matrix, "float32"));
      });

/**
 * What is added to the queries of attention, rounded to bfloat16, on the GPU: a vector, whatever its
 * axes. One that is trained is there already, as float32.
 */
export const queryBiasOnGpu = (values: Tensor): DeviceTensor =>
  values instanceof DeviceTensor
    ? values.reshape([values.size]).cast("bfloat16")
    : once(vectors.bfloat16, values, () => {
        using vector = values.reshape([values.size]);
        return keep(DeviceTensor.from(vector, "bfloat16"));
      });

/** A matrix that is added to frames, rounded to bfloat16, on the GPU. */
export const addendOnGpu = (values: Tensor): DeviceTensor =>
  once(vectors.bfloat16, values, () => keep(DeviceTensor.from(values, "bfloat16")));

/** Says what `offsets` are on the GPU, instead of having them copied there. */
export function placeSequences(offsets: SequenceOffsets, placed: DeviceSequences): void {
  sequences.set(offsets, placed);
}

/**
 * Offsets on the GPU. They go with the scope they were first needed in, and come back when needed again.
 * @param rows what they are offsets in, where that is not the frames themselves; the same whenever these offsets are given
 */
export function sequencesOnGpu(offsets: SequenceOffsets, rows?: Tensor): DeviceSequences {
  if (sequences.get(offsets)?.released) sequences.delete(offsets);
  return once(sequences, offsets, () => (rows ? DeviceSequences.ofRows(offsets, rows) : new DeviceSequences(offsets)));
}
