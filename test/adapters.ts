/** Adapters of small models. */
import { Adapter, compressModel, Tensor, type AdapterBase } from "../lib/index.js";
import { keep } from "../lib/tensor/scope.js";
import { randomValues } from "./gradient.js";
import { roundToNearest } from "./recipes.js";

/** Packs a float model into int4+2:4. */
export async function packedTiny(float: string, out: string): Promise<string> {
  await compressModel({ model: float, recipe: roundToNearest("int4+2:4"), manifest: undefined, out });
  return out;
}

/** An adapter that changes much. @param part of the names of the layers it is for */
export function randomAdapter(base: AdapterBase, rank: number, seed: number, part = ""): Adapter {
  let next = 100 * seed;
  const random = (shape: readonly [number, number], size: number): Tensor =>
    keep(
      Tensor.from(
        randomValues(shape[0] * shape[1], next++).map((value) => value * size),
        shape,
      ),
    );
  return new Adapter(
    new Map(
      [...base.layers]
        .filter(([name]) => name.includes(part))
        .map(([name, [out, input]]) => [name, { down: random([rank, input], 0.5), up: random([rank, out], 0.3) }]),
    ),
  );
}
