/** Weights of a model that has not been trained yet. */
import { RandomStream } from "../ops/random_stream.js";
import { keep } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import type { Initialization, WeightSource } from "./weight_source.js";

/**
 * Draws every weight from `seed`: the same seed, names and shapes give the same model.
 *
 * @example
 * const config = parseLasrConfig({ model_type: "lasr_ctc", encoder_config: { num_hidden_layers: 2 } }, "mine");
 * const network = new LasrForCtc(config, new FreshWeights(1));
 */
export class FreshWeights implements WeightSource {
  private readonly random: RandomStream;

  constructor(seed: number) {
    this.random = new RandomStream(seed);
  }

  tensor(_name: string, shape: readonly number[], initialization: Initialization): Tensor {
    const size = shape.reduce((product, extent) => product * extent, 1);
    const values = new Float32Array(size);
    if (initialization === "ones") values.fill(1);
    const bound = uniformBound(shape, initialization);
    if (bound > 0) for (let i = 0; i < size; i++) values[i] = (2 * this.random.uniform() - 1) * bound;
    return keep(Tensor.from(values, shape));
  }

  matrix(name: string, shape: readonly number[], initialization: Initialization): Tensor {
    return this.tensor(name, shape, initialization);
  }

  has(): boolean {
    return false;
  }
}

/** Largest magnitude of uniform values; a uniform distribution up to b has variance b² / 3. */
function uniformBound([outputs = 1, ...rest]: readonly number[], initialization: Initialization): number {
  const inputs = rest.reduce((product, extent) => product * extent, 1);
  switch (initialization) {
    case "glorot":
      return Math.sqrt(6 / (inputs + outputs));
    case "he":
      return Math.sqrt(6 / inputs);
    case "fanIn":
      return 1 / Math.sqrt(inputs);
    case "small":
      return 0.02 * Math.sqrt(3);
    default:
      return 0;
  }
}
