/** An adapter in memory: what speech of one speaker (or of many) adds to the linear layers of a model. */
import { DeviceParameter } from "../device/device_parameter.js";
import { removeFromGpu } from "../device/placement.js";
import { UsmLiteError } from "../errors.js";
import type { LayerFactors } from "../nn/adapter_scope.js";
import type { LowRankFactors } from "../ops/low_rank.js";
import { RandomStream } from "../ops/random_stream.js";
import { keep } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";

/**
 * Low-rank factors that are added to layers of a model for one speaker, or many: LoRA, Hu et al. 2022 (arXiv 2106.09685).
 *
 * @example
 * const base = new AdapterBase(loadModel("packed"));
 * using adapter = readAdapter("adapters/ann", base);
 */
export class Adapter implements Disposable {
  /** @param factors by weight name; the adapter owns them */
  constructor(readonly factors: LayerFactors) {}

  /** Numbers that it holds. */
  get parameters(): number {
    return [...this.factors.values()].reduce((sum, { down, up }) => sum + down.size + up.size, 0);
  }

  /** Bytes of tensors; as many again on a GPU where it is used there. */
  get bytes(): number {
    return 4 * this.parameters;
  }

  dispose(): void {
    for (const { down, up } of this.factors.values()) {
      for (const factor of [down, up]) {
        removeFromGpu(factor);
        factor.dispose();
      }
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/**
 * An adapter that adds nothing yet: `down` as PEFT fills LoRA's A (Kaiming uniform: up to 1 / sqrt(in)), `up` zero.
 * @param layers (out, in) by weight name
 * @param device where it is to learn
 */
export function freshAdapter(
  layers: ReadonlyMap<string, readonly [out: number, input: number]>,
  rank: number,
  seed: number,
  device: "cpu" | "cuda" = "cpu",
): Adapter {
  if (!Number.isInteger(rank) || rank < 1)
    throw new UsmLiteError("INVALID_ARGUMENT", `the rank of an adapter is ${rank}; it must be a whole number from 1`);
  const random = RandomStream.derived(seed, rank);
  const factors = new Map<string, LowRankFactors>();
  for (const [name, [out, input]] of layers) {
    const bound = 1 / Math.sqrt(input);
    const down = Float32Array.from({ length: rank * input }, () => (2 * random.uniform() - 1) * bound);
    factors.set(name, { down: placed(Tensor.from(down, [rank, input]), device), up: placed(Tensor.zeros([rank, out]), device) });
  }
  return new Adapter(factors);
}

function placed(factor: Tensor, device: "cpu" | "cuda"): Tensor {
  if (device === "cpu") return keep(factor);
  using values = factor;
  return keep(DeviceParameter.place(values));
}

/**
 * The sum of several adapters as one of the sum of their ranks: their factors one after another.
 *
 * @example
 * const both = stackAdapters([shared, ann]);
 * both.parameters; // shared.parameters + ann.parameters
 */
export function stackAdapters(adapters: readonly Adapter[]): Adapter {
  const factors = new Map<string, LowRankFactors>();
  for (const name of new Set(adapters.flatMap((adapter) => [...adapter.factors.keys()]))) {
    const parts = adapters.flatMap((adapter) => adapter.factors.get(name) ?? []);
    factors.set(name, { down: stackedRows(parts.map(({ down }) => down)), up: stackedRows(parts.map(({ up }) => up)) });
  }
  return new Adapter(factors);
}

/** A copy on the CPU whose addition is `factor` times as large. */
export function scaledAdapter(adapter: Adapter, factor: number): Adapter {
  const factors = new Map<string, LowRankFactors>();
  for (const [name, { down, up }] of adapter.factors) {
    factors.set(name, {
      down: keep(Tensor.from(down.toArray(), down.shape)),
      up: keep(
        Tensor.from(
          up.toArray().map((value) => value * factor),
          up.shape,
        ),
      ),
    });
  }
  return new Adapter(factors);
}

function stackedRows(parts: readonly Tensor[]): Tensor {
  const columns = (parts[0] as Tensor).dim(1);
  const values = new Float32Array(parts.reduce((sum, { size }) => sum + size, 0));
  let at = 0;
  for (const part of parts) {
    values.set(part.toArray(), at);
    at += part.size;
  }
  return keep(Tensor.from(values, [values.length / columns, columns]));
}
