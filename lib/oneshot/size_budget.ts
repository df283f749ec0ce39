/** Choosing a spec for each layer so that all together fit into a number of bytes and lose least. */
import { UsmLiteError } from "../errors.js";

/** One way of coding a layer. */
export interface Candidate {
  readonly spec: string;
  readonly bytes: number;
  /** What the model loses by it, in units that may be added over layers. */
  readonly loss: number;
}

/**
 * The candidate of each layer. Begins with the smallest of every layer and, as long as there are bytes left, takes the step
 * to a larger one that saves most loss per byte; only candidates on the lower convex hull of loss over bytes are considered,
 * so that each step is worth less than the one before, as in the Lagrangian relaxation of the knapsack problem. The best
 * choice of one spec for all layers is returned instead where that is better. Ties go to the layer named first.
 * @param layers candidates of each layer, by name; all layers have the same specs
 * @param budget bytes of all layers together
 * @throws UsmLiteError INVALID_ARGUMENT when even the smallest candidates take more
 *
 * @example
 * const chosen = withinBudget(new Map([["a", [{ spec: "int8", bytes: 100, loss: 0.1 }, { spec: "int4", bytes: 50, loss: 1 }]]]), 80);
 */
export function withinBudget(layers: ReadonlyMap<string, readonly Candidate[]>, budget: number): ReadonlyMap<string, Candidate> {
  const hulls = new Map([...layers].map(([name, candidates]) => [name, lowerHull(candidates)]));
  const chosen = new Map([...hulls.keys()].map((name): [string, number] => [name, 0]));
  const current = (name: string): Candidate => at(hulls, name, chosen.get(name) as number) as Candidate;
  let room = budget - [...hulls.keys()].reduce((sum, name) => sum + current(name).bytes, 0);
  if (room < 0) {
    throw new UsmLiteError(
      "INVALID_ARGUMENT",
      `the smallest specs take ${budget - room} bytes, more than the budget of ${budget}; add smaller specs or bytes`,
    );
  }
  for (;;) {
    let best: { name: string; gain: number; bytes: number } | undefined;
    for (const [name, index] of chosen) {
      const next = at(hulls, name, index + 1);
      const bytes = next ? next.bytes - current(name).bytes : Infinity;
      if (!next || bytes > room) continue;
      const gain = (current(name).loss - next.loss) / bytes;
      if (best === undefined || gain > best.gain) best = { name, gain, bytes };
    }
    if (!best) break;
    chosen.set(best.name, (chosen.get(best.name) as number) + 1);
    room -= best.bytes;
  }
  const mixed = new Map([...chosen.keys()].map((name) => [name, current(name)]));
  return [mixed, ...uniformChoices(layers, budget)].reduce((best, choice) =>
    totalOf(choice, "loss") < totalOf(best, "loss") ? choice : best,
  );
}

/** Sum over the chosen candidates. */
export const totalOf = (choice: ReadonlyMap<string, Candidate>, key: "bytes" | "loss"): number =>
  [...choice.values()].reduce((sum, candidate) => sum + candidate[key], 0);

const at = (hulls: ReadonlyMap<string, readonly Candidate[]>, name: string, index: number): Candidate | undefined =>
  hulls.get(name)?.[index];

/** By rising bytes, each with less loss than the one before, and at falling rates. */
function lowerHull(candidates: readonly Candidate[]): readonly Candidate[] {
  const hull: Candidate[] = [];
  const rate = (from: Candidate, to: Candidate): number => (from.loss - to.loss) / (to.bytes - from.bytes);
  for (const candidate of [...candidates].sort((a, b) => a.bytes - b.bytes || a.loss - b.loss)) {
    const last = hull.at(-1);
    if (last && candidate.loss >= last.loss) continue;
    while (hull.length > 1 && rate(hull.at(-2) as Candidate, hull.at(-1) as Candidate) <= rate(hull.at(-1) as Candidate, candidate))
      hull.pop();
    hull.push(candidate);
  }
  return hull;
}

/** Every choice of one spec for all layers that fits. */
function uniformChoices(layers: ReadonlyMap<string, readonly Candidate[]>, budget: number): readonly ReadonlyMap<string, Candidate>[] {
  const specs = [...layers.values()][0]?.map(({ spec }) => spec) ?? [];
  return specs
    .map(
      (spec) =>
        new Map(
          [...layers].flatMap(([name, candidates]) =>
            candidates.filter((one) => one.spec === spec).map((one): [string, Candidate] => [name, one]),
          ),
        ),
    )
    .filter((choice) => choice.size === layers.size && totalOf(choice, "bytes") <= budget);
}
