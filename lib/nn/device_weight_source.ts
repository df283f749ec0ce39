/** Weights of a network that is trained on the GPU, whole or in part. */
import { DeviceParameter } from "../device/device_parameter.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { weightMatrix } from "../quant/weight_matrix.js";
import { keep } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { UsmLiteError } from "../errors.js";
import type { Initialization, WeightSource } from "./weight_source.js";

/**
 * Gives the float weights of another source, which it disposes of, as {@link DeviceParameter}s, which the network then trains on the GPU;
 * those whose names do not match `placed` stay on the CPU as they are.
 *
 * @example
 * const network = new LasrForCtc(config, new DeviceWeightSource(new FreshWeights(1)));
 */
export class DeviceWeightSource implements WeightSource {
  /**
   * @param placed default: all
   * @param frozen names of weights of linear layers that stay as they are: they are rounded to bfloat16 once and for all
   */
  constructor(
    private readonly source: WeightSource,
    private readonly placed = /^/,
    private readonly frozen: ReadonlySet<string> = new Set(),
  ) {}

  tensor(name: string, shape: readonly number[], initialization: Initialization): Tensor {
    return this.place(name, this.source.tensor(name, shape, initialization));
  }

  /** @throws UsmLiteError INVALID_ARGUMENT for a packed weight, which cannot be trained */
  matrix(name: string, shape: readonly number[], initialization: Initialization): Tensor {
    const weight = this.source.matrix(name, shape, initialization);
    if (weight instanceof Tensor) return this.place(name, weight);
    throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" is packed; only float weights can be trained`);
  }

  has(name: string): boolean {
    return this.source.has(name);
  }

  private place(name: string, weight: Tensor): Tensor {
    if (!this.placed.test(name)) return keep(weight);
    const placed = this.frozen.has(name) ? rounded(weight) : DeviceParameter.place(weight);
    weight.dispose();
    return keep(placed);
  }
}

function rounded(weight: Tensor): DeviceTensor {
  using matrix = weightMatrix(weight);
  return DeviceTensor.from(matrix);
}
