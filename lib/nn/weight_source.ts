/** Where layers get their weights from: a checkpoint that is read, or a fresh initialization. */
import { UsmLiteError } from "../errors.js";
import type { DeviceWeight } from "../device/device_weight.js";
import type { PackedMatrix } from "../quant/packed_matrix.js";
import type { Tensor } from "../tensor/tensor.js";

/**
 * How a fresh parameter is filled. `glorot` keeps the variance of signals and gradients through a linear layer (Glorot
 * and Bengio 2010), `he` that of signals through a layer with ReLU (He et al. 2015), `fanIn` is uniform up to
 * 1 / sqrt(inputs), and `small` lets a classifier begin with nearly equal probabilities.
 */
export type Initialization = "zeros" | "ones" | "glorot" | "he" | "fanIn" | "small";

/** The weight of a linear layer: float, packed for the CPU, or packed and on the GPU. */
export type MatrixWeight = Tensor | PackedMatrix | DeviceWeight;

/** Gives tensors by their full checkpoint name. */
export interface WeightSource {
  /** A float32 tensor of exactly this shape. */
  tensor(name: string, shape: readonly number[], initialization: Initialization): Tensor;
  /** The weight of a linear layer, which a compressed checkpoint holds packed. */
  matrix(name: string, shape: readonly number[], initialization: Initialization): MatrixWeight;
  /** Whether there is a weight of this name: some can be written in two ways. A source without weights of its own says no. */
  has(name: string): boolean;
}

/** Names below a prefix: `scope("encoder").scope("layers.0").tensor("norm_out.weight", ..)`. */
export class WeightScope implements WeightSource {
  constructor(
    private readonly source: WeightSource,
    private readonly prefix = "",
  ) {}

  scope(name: string): WeightScope {
    return new WeightScope(this.source, this.nameOf(name));
  }

  nameOf(name: string): string {
    return this.prefix ? `${this.prefix}.${name}` : name;
  }

  tensor(name: string, shape: readonly number[], initialization: Initialization): Tensor {
    return this.source.tensor(this.nameOf(name), shape, initialization);
  }

  matrix(name: string, shape: readonly number[], initialization: Initialization): MatrixWeight {
    return this.source.matrix(this.nameOf(name), shape, initialization);
  }

  has(name: string): boolean {
    return this.source.has(this.nameOf(name));
  }
}

/** Throws unless a stored tensor has the shape that the configuration asks for. */
export function checkShape(file: string, name: string, found: readonly number[], wanted: readonly number[]): void {
  if (found.length === wanted.length && found.every((extent, axis) => extent === wanted[axis])) return;
  throw new UsmLiteError(
    "BAD_CHECKPOINT",
    `${file}: tensor "${name}" has shape (${found.join(", ")}) but config.json asks for (${wanted.join(", ")})`,
  );
}
