/** Weights of a network that is trained on the GPU. */
import { DeviceTensor } from "../device/device_tensor.js";
import { weightMatrix } from "../quant/weight_matrix.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { UsmLiteError } from "../errors.js";
import type { Initialisation, WeightSource } from "./weight_source.js";

/**
 * Gives the float weights of another source as float32 tensors on the GPU, which the network then trains there: vectors as they are,
 * weights of more axes as their {@link weightMatrix}.
 *
 * @example
 * const network = new LasrForCtc(config, new DeviceWeightSource(new FreshWeights(1)));
 */
export class DeviceWeightSource implements WeightSource {
  constructor(private readonly source: WeightSource) {}

  tensor(name: string, shape: readonly number[], initialisation: Initialisation): DeviceTensor {
    return onGpu(this.source.tensor(name, shape, initialisation));
  }

  /** @throws UsmLiteError INVALID_ARGUMENT for a packed weight, which cannot be trained */
  matrix(name: string, shape: readonly number[], initialisation: Initialisation): DeviceTensor {
    const weight = this.source.matrix(name, shape, initialisation);
    if (weight instanceof Tensor) return onGpu(weight);
    throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" is packed; only float weights can be trained`);
  }

  has(name: string): boolean {
    return this.source.has(name);
  }
}

function onGpu(weight: Tensor): DeviceTensor {
  const placed = tidy(() => DeviceTensor.from(weight.shape.length > 1 ? weightMatrix(weight) : weight, "float32"));
  weight.dispose();
  return keep(placed);
}
