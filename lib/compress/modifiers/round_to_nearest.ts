/** `round-to-nearest`: weights are pruned by magnitude and rounded to the grid of their spec, without data. */
import { modifierType, specSchema } from "../modifier.js";

export const roundToNearest = modifierType("round-to-nearest", { spec: specSchema }, ({ spec }) => ({
  specOf: () => spec,
  // Packing rounds to the nearest level of the format's own scale, and prunes by magnitude where there is no mask.
  compressWeight: () => ({}),
}));
