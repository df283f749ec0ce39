/** Keeps account of the weights that a network takes from its source. */
import type { DeviceWeight } from "../device/device_weight.js";
import { removeFromGpu } from "../device/placement.js";
import type { PackedMatrix } from "../quant/packed_matrix.js";
import { Tensor } from "../tensor/tensor.js";
import type { Initialization, MatrixWeight, WeightSource } from "./weight_source.js";

export class WeightRegistry implements WeightSource {
  /** Trainable tensors by checkpoint name, in the order in which they were asked for. */
  readonly parameters = new Map<string, Tensor>();
  /** Running statistics by checkpoint name. */
  readonly buffers = new Map<string, Tensor>();
  private readonly packed: (PackedMatrix | DeviceWeight)[] = [];

  constructor(private readonly source: WeightSource) {}

  tensor(name: string, shape: readonly number[], initialization: Initialization): Tensor {
    const tensor = this.source.tensor(name, shape, initialization);
    (name.includes("running_") ? this.buffers : this.parameters).set(name, tensor);
    return tensor;
  }

  matrix(name: string, shape: readonly number[], initialization: Initialization): MatrixWeight {
    const matrix = this.source.matrix(name, shape, initialization);
    if (matrix instanceof Tensor) this.parameters.set(name, matrix);
    else this.packed.push(matrix);
    return matrix;
  }

  has(name: string): boolean {
    return this.source.has(name);
  }

  /** Gives the memory of all weights back. */
  dispose(): void {
    for (const weight of [...this.parameters.values(), ...this.buffers.values()]) {
      removeFromGpu(weight);
      weight.dispose();
    }
    for (const weight of this.packed) weight.dispose();
  }
}
