/**
 * The parts of a model on the GPU: weights and biases go there when an operation first meets them with activations that
 * are there, and stay as long as the model.
 */
import { UsmLiteError } from "../errors.js";
import { packWeight, type PackedWeight } from "../quant/packed_weight.js";
import { PackedMatrix } from "../quant/packed_matrix.js";
import { keep, tidy } from "../tensor/scope.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { DeviceSequences } from "./device_sequences.js";
import { DeviceTensor } from "./device_tensor.js";
import { DeviceWeight } from "./device_weight.js";

const weights = new WeakMap<Tensor | PackedMatrix, DeviceWeight>();
const vectors = new WeakMap<Tensor, DeviceTensor>();
const biases = new WeakMap<Tensor, DeviceTensor>();
const sequences = new WeakMap<SequenceOffsets, DeviceSequences>();

/** What `map` has for `key`, made when it has nothing. */
function once<Key extends object, Value>(map: WeakMap<Key, Value>, key: Key, make: () => Value): Value {
  let value = map.get(key);
  if (value === undefined) map.set(key, (value = make()));
  return value;
}

/**
 * Places a packed weight on the GPU for the products with `matrix`, whose bytes are in another order by now.
 * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY; UNSUPPORTED_SPEC when the GPU has no kernel for this spec
 */
export function placeOnGpu(matrix: PackedMatrix, packed: PackedWeight): void {
  weights.set(matrix, DeviceWeight.from(packed));
}

/** Gives the memory of a weight on the GPU back; nothing happens for one that is not there. */
export function removeFromGpu(weight: Tensor | PackedMatrix): void {
  weights.get(weight)?.dispose();
  weights.delete(weight);
}

/**
 * A linear weight on the GPU: float weights (out, in) or (out, in, kernel) are rounded to bfloat16.
 * @throws UsmLiteError INVALID_ARGUMENT for a packed weight that {@link placeOnGpu} was not called for
 */
export function weightOnGpu(weight: Tensor | PackedMatrix): DeviceWeight {
  if (weight instanceof PackedMatrix) {
    const placed = weights.get(weight);
    if (placed) return placed;
    throw new UsmLiteError("INVALID_ARGUMENT", 'a packed weight is not on the GPU; load the model with device "cuda"');
  }
  return once(weights, weight, () => tidy(() => DeviceWeight.from(packWeight(weight, "float32"))));
}

/** A bias on the GPU, in the order of its weight. */
export const biasOnGpu = (bias: Tensor | undefined, weight: DeviceWeight): DeviceTensor | undefined =>
  bias && once(biases, bias, () => keep(weight.arrangeBias(bias)));

/** The float32 weights of a norm or a depthwise convolution on the GPU, with at most two axes. */
export const vectorOnGpu = (values: Tensor): DeviceTensor =>
  once(vectors, values, () => {
    const shape = values.shape.filter((extent, axis) => axis === 0 || extent !== 1);
    using matrix = values.reshape(shape);
    return keep(DeviceTensor.from(matrix, "float32"));
  });

/** Offsets on the GPU. They go with the scope they were first needed in, and come back when needed again. */
export function sequencesOnGpu(offsets: SequenceOffsets): DeviceSequences {
  if (sequences.get(offsets)?.released) sequences.delete(offsets);
  return once(sequences, offsets, () => new DeviceSequences(offsets));
}
