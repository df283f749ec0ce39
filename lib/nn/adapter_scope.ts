/**
 * Which adapters the linear layers of a forward pass use. Passes are synchronous, so this is a scope around one, as the
 * tape is: layers of every family ask it, and no family has to hand anything down.
 */
import { UsmLiteError } from "../errors.js";
import type { LowRankFactors } from "../ops/low_rank.js";
import type { RandomStream } from "../ops/random_stream.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";

/** Low-rank factors by the name of the weight that they are added to. */
export type LayerFactors = ReadonlyMap<string, LowRankFactors>;

/** Every sequence of a batch has adapters of its own, or none; for inference. */
export interface SequenceAdapters {
  readonly kind: "sequences";
  /** Where each sequence lies among the rows that linear layers see. */
  readonly offsets: SequenceOffsets;
  readonly adapters: readonly (LayerFactors | undefined)[];
}

/** All rows have the same adapters, which are added up; what learns. */
export interface SharedAdapters {
  readonly kind: "all";
  readonly adapters: readonly { readonly factors: LayerFactors; readonly scale: number }[];
  /** Of what adapters see while they learn. */
  readonly dropout?: { readonly probability: number; readonly random: RandomStream };
}

export type AdapterScope = SequenceAdapters | SharedAdapters;

let active: AdapterScope | undefined;

/** The adapters of the pass under way, if any. */
export const activeAdapters = (): AdapterScope | undefined => active;

/** Runs a forward pass with adapters. Scopes do not nest. */
export function withAdapters<Result>(scope: AdapterScope, pass: () => Result): Result {
  if (active) throw new UsmLiteError("INTERNAL", "a forward pass with adapters is already under way");
  active = scope;
  try {
    return pass();
  } finally {
    active = undefined;
  }
}

/**
 * Runs the part of a pass whose linear layers see other rows than the last of it do, such as an encoder whose output is shortened.
 * @param offsets where each sequence lies among these rows
 */
export function withSequences<Result>(offsets: SequenceOffsets, part: () => Result): Result {
  const scope = active;
  if (scope?.kind !== "sequences") return part();
  active = { ...scope, offsets };
  try {
    return part();
  } finally {
    active = scope;
  }
}

/** Whether a scope adds something to the layer whose weight has this name. */
export const adapts = (scope: AdapterScope, name: string): boolean =>
  scope.kind === "all" ? scope.adapters.some(({ factors }) => factors.has(name)) : scope.adapters.some((factors) => factors?.has(name));
