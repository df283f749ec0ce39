/** Which linear layers of a block multiply the output of which layer norm: blocks say it, each of its own norms. */
import type { Linear } from "./linear.js";

/** A layer norm with all that its output goes to: linear layers and nothing else. */
export interface NormReaders {
  /** Weight, and bias where there is one, by checkpoint name: float32 (hidden). */
  readonly norm: readonly string[];
  /** Weights (out, hidden) or (out, hidden, 1) of the linear layers, by checkpoint name. */
  readonly readers: readonly string[];
}

/**
 * @param norm names of its weight and bias
 * @param layers that multiply its output as it is; none where something else sees it too
 */
export const readersOf = (norm: readonly string[], layers: readonly Linear[]): readonly NormReaders[] =>
  layers.length > 0 ? [{ norm, readers: layers.map(({ name }) => name) }] : [];
