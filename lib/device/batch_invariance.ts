/**
 * Whether what the GPU makes of a sequence may depend, in its last bits, on what it is computed together with. Passes are synchronous, so this is
 * a scope around one, as its adapters are: operations ask it, and no family has to hand anything down.
 */
let invariant = false;

/** Whether the pass under way has to give a sequence the same bits in any batch. */
export const isBatchInvariant = (): boolean => invariant;

/**
 * Runs a forward pass. With `asked`, whole sums belong to one thread block, in an order that the number of frames has no say in; without, work is
 * divided as it is fastest.
 */
export function batchInvariantly<Result>(asked: boolean, pass: () => Result): Result {
  const before = invariant;
  invariant = asked;
  try {
    return pass();
  } finally {
    invariant = before;
  }
}
