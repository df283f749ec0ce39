/** Weight normalization (Salimans, Kingma 2016) along the last axis. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceWeightNorm, deviceWeightNormBackward } from "../device/positional_convolution_training.js";
import { Tensor } from "../tensor/tensor.js";
import { accumulateParts } from "./gradients.js";
import { recordStep } from "./tape.js";

/**
 * `gain[k] * direction[.., k] / |direction[.., k]|` for each k of the last axis: what the taps of a convolution are when torch normalizes
 * them with `dim=2`. On the GPU tap after tap: `direction` is (out, taps * in) there, of a tensor (out, in, taps).
 * @param gain as many values as the last axis of `direction`
 * @returns a tensor like `direction`
 */
export function weightNorm(gain: Tensor, direction: Tensor): Tensor {
  if (direction instanceof DeviceTensor) return weightNormOnGpu(onGpu(gain, "gain"), direction);
  const gains = gain.toArray();
  const directions = direction.toArray();
  const taps = gains.length;
  const lengths = columnSums(directions, directions, taps).map(Math.sqrt);
  const factors = lengths.map((length, tap) => (gains[tap] as number) / length);
  const output = Tensor.from(
    directions.map((value, i) => value * (factors[i % taps] as number)),
    direction.shape,
  );
  return recordStep(output, [gain, direction], (gradient, tape) => {
    const above = gradient.toArray();
    // Of the gradient, the part along the direction changes the gain and the rest turns the direction.
    const along = columnSums(above, directions, taps).map((sum, tap) => sum / (lengths[tap] as number));
    tape.accumulate(gain, Tensor.from(Float32Array.from(along), gain.shape));
    const turned = above.map((value, i) => {
      const tap = i % taps;
      return (factors[tap] as number) * (value - ((along[tap] as number) * (directions[i] as number)) / (lengths[tap] as number));
    });
    tape.accumulate(direction, Tensor.from(turned, direction.shape));
  });
}

function weightNormOnGpu(gain: DeviceTensor, direction: DeviceTensor): Tensor {
  return recordStep(deviceWeightNorm(gain, direction), [gain, direction], (gradient, tape) => {
    accumulateParts(tape, { gain, direction }, deviceWeightNormBackward(gain, direction, onGpu(gradient, "gradient")));
  });
}

/** Sum of x * y for each of `columns` interleaved columns. */
function columnSums(x: Float32Array, y: Float32Array, columns: number): Float64Array {
  const sums = new Float64Array(columns);
  for (let i = 0; i < x.length; i++) sums[i % columns] = (sums[i % columns] as number) + (x[i] as number) * (y[i] as number);
  return sums;
}
