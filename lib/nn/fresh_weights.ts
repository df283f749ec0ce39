/** Weights of a model that has not been trained yet. */
import { RandomStream } from "../ops/random_stream.js";
import { keep } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { Initialisation, WeightSource } from "./weight_source.js";

/** Draws every weight from `seed`: the same seed, names and shapes give the same model. */
export class FreshWeights implements WeightSource {
  private readonly random: RandomStream;

  constructor(seed: number) {
    this.random = new RandomStream(seed);
  }

  tensor(_name: string, shape: readonly number[], initialisation: Initialisation): Tensor {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const values = new Float32Array(size);
    if (initialisation === "ones") values.fill(1);
    if (initialisation === "fanIn") {
      // Uniform with variance 1 / fan-in keeps the variance of a linear layer's output at that of its input.
      const fanIn = shape.slice(1).reduce((product, extent) => product * extent, 1);
      const bound = Math.sqrt(3 / fanIn);
      for (let i = 0; i < size; i++) values[i] = (2 * this.random.uniform() - 1) * bound;
    }
    return keep(Tensor.from(values, shape));
  }

  matrix(name: string, shape: readonly number[]): Tensor {
    return this.tensor(name, shape, "fanIn");
  }
}
