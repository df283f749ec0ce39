/** A linear layer with adapters: `activation(x·Wᵀ + bias + (x·downᵀ)·up)`. */
import { DeviceTensor } from "../device/device_tensor.js";
import { UsmLiteError } from "../errors.js";
import { dropout as dropoutOf, silu } from "../ops/activation.js";
import { scaledSum } from "../ops/elementwise.js";
import { frozenLinear } from "../ops/frozen_linear.js";
import { gelu, geluInPlace } from "../ops/gelu.js";
import { linear, type LinearOptions } from "../ops/linear.js";
import { addLowRank, lowRankSum, type LowRankFactors } from "../ops/low_rank.js";
import { packedLinear } from "../ops/packed_linear.js";
import { relu } from "../ops/relu.js";
import { activeTape } from "../ops/tape.js";
import { PackedMatrix } from "../quant/packed_matrix.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { Tensor } from "../tensor/tensor.js";
import type { AdapterScope } from "./adapter_scope.js";
import type { MatrixWeight } from "./weight_source.js";

/** What a layer is called and multiplies by. */
export interface AdaptedLayer {
  readonly name: string;
  readonly weight: MatrixWeight;
  readonly bias: Tensor | undefined;
}

export type AdaptedLinearOptions = Omit<LinearOptions, "bias">;

/**
 * @param x (frames, in)
 * @throws UsmLiteError INVALID_ARGUMENT for gradients through a weight that is on the GPU for inference; INTERNAL when the rows of
 * `x` are not those of the scope's sequences
 */
export function adaptedLinear(layer: AdaptedLayer, x: Tensor, options: AdaptedLinearOptions, scope: AdapterScope): Tensor {
  const { activation = "none", scale = 1, residual, residualScale = 1, dropout } = options;
  // What comes after an activation has to wait until the adapter was added before it.
  const fused = activation === "none" && !dropout;
  const sum = product(layer, x, fused ? { scale, residual, residualScale } : {});
  if (!activeTape()) {
    const runs = runsOf(layer.name, x, scope);
    runs.forEach(({ offsets, factors, scale: own }, index) => {
      const last = index === runs.length - 1;
      addLowRank(sum, x, offsets, factors, {
        scale: fused ? scale * own : own,
        activation: last && activation !== "gelu" ? activation : "none",
      });
    });
    if (activation === "gelu") geluInPlace(sum);
    if (activation !== "none") restoreUnadapted(sum, layer, x, activation, runs);
    return fused ? sum : finished(sum, options);
  }
  const added = factorsOfAll(layer.name, scope).reduce(
    (y, { factors, scale: own }) => lowRankSum(y, x, factors, { scale: fused ? scale * own : own, dropout: adapterDropout(scope) }),
    sum,
  );
  if (fused) return added;
  if (activation === "silu") return finished(silu(added, { dropout }), { scale, residual, residualScale });
  if (activation === "gelu") return finished(gelu(added), options);
  return finished(activation === "relu" ? relu(added) : added, options);
}

/** Adds what adapters make of `x` to what the layer `name` has made of it, in place; for inference. */
export function addAdapters(name: string, y: Tensor, x: Tensor, scope: AdapterScope): void {
  for (const { offsets, factors, scale } of runsOf(name, x, scope)) addLowRank(y, x, offsets, factors, { scale });
}

function product({ weight, bias }: AdaptedLayer, x: Tensor, options: Omit<LinearOptions, "bias">): Tensor {
  if (x instanceof DeviceTensor && activeTape() && !(weight instanceof DeviceTensor)) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      "no gradients go through weights that are on the GPU for inference; adaptSpeaker places a network of its own there",
    );
  }
  if (weight instanceof Tensor) return linear(x, weight, { bias, ...options });
  if (weight instanceof PackedMatrix) return frozenLinear(x, weight, { bias, ...options });
  return packedLinear(x, weight, { bias, ...options });
}

/**
 * Gives rows without an adapter what they get where nobody has one: there the activation is part of the product, which rounds
 * in places of its own.
 */
function restoreUnadapted(
  y: Tensor,
  { weight, bias }: AdaptedLayer,
  x: Tensor,
  activation: NonNullable<LinearOptions["activation"]>,
  runs: readonly Addition[],
): void {
  const [{ offsets, factors }] = runs as [Addition];
  if (runs.length > 1 || factors.every((one) => one !== undefined)) return;
  const plain = weight instanceof Tensor ? linear(x, weight, { bias, activation }) : packedLinear(x, weight, { bias, activation });
  offsets.lengths.forEach((length, index) => {
    if (factors[index] || length === 0) return;
    const begin = offsets.begin(index);
    const [from, to] = [plain.rows(begin, begin + length), y.rows(begin, begin + length)];
    if (from instanceof DeviceTensor) from.copyTo(to as DeviceTensor);
    else to.write(from.toArray());
  });
}

/** Dropout, scale and residual, where an activation came before them. */
function finished(y: Tensor, { scale = 1, residual, residualScale = 1, dropout }: AdaptedLinearOptions): Tensor {
  const dropped = dropout ? dropoutOf(y, dropout) : y;
  if (residual) return scaledSum(residual, residualScale, dropped, scale);
  return scale === 1 ? dropped : scaledSum(dropped, scale, dropped, 0);
}

interface Addition {
  /** Runs of rows, and what is added to each. */
  readonly offsets: SequenceOffsets;
  readonly factors: readonly (LowRankFactors | undefined)[];
  readonly scale: number;
}

/** What is added to all rows comes one after the other. There is one addition at least, though it may add nothing. */
function runsOf(name: string, x: Tensor, scope: AdapterScope): Addition[] {
  const rows = x.dim(0);
  const all = (factors: LowRankFactors | undefined, scale: number): Addition => ({
    offsets: new SequenceOffsets([rows]),
    factors: [factors],
    scale,
  });
  if (scope.kind === "all") {
    const added = factorsOfAll(name, scope);
    return added.length > 0 ? added.map(({ factors, scale }) => all(factors, scale)) : [all(undefined, 1)];
  }
  const factors = scope.adapters.map((adapter) => adapter?.get(name));
  if (scope.offsets.frames === rows) return [{ offsets: scope.offsets, factors, scale: 1 }];
  const distinct = [...new Set(factors)];
  if (distinct.length === 1) return [all(distinct[0], 1)];
  throw new UsmLiteError("INTERNAL", `layer "${name}" sees ${rows} rows, but the sequences with adapters have ${scope.offsets.frames}`);
}

function factorsOfAll(name: string, scope: AdapterScope): { factors: LowRankFactors; scale: number }[] {
  if (scope.kind !== "all") throw new UsmLiteError("INTERNAL", "a batch with adapters for each sequence is for inference");
  return scope.adapters.flatMap(({ factors, scale }) => {
    const ofLayer = factors.get(name);
    return ofLayer ? [{ factors: ofLayer, scale }] : [];
  });
}

function adapterDropout(scope: AdapterScope): { probability: number; seed: number } | undefined {
  if (scope.kind !== "all" || !scope.dropout || scope.dropout.probability === 0) return undefined;
  return { probability: scope.dropout.probability, seed: scope.dropout.random.nextSeed() };
}
