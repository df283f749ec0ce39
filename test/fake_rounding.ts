/** A stand-in for pruning and quantization: masks redrawn at even steps. */
import { keep, Tensor } from "../lib/operations.js";
import type { TrainingModifier } from "../lib/index.js";
import { recordStep } from "../lib/ops/tape.js";
import type { SmallCtcModel } from "./small_ctc_model.js";

/** Multiplies each linear weight by a mask of its larger half, recomputed before every second step. */
export function fakeRounding(model: SmallCtcModel): TrainingModifier {
  const weights = model.linearWeights().map((name) => [name, model.parameters().get(name) as Tensor] as const);
  const masks = new Map(weights.map(([name, weight]) => [name, keep(Tensor.zeros(weight.shape))]));
  const masked = (weight: Tensor, mask: Tensor): Tensor => {
    const keepers = mask.toArray();
    return Tensor.from(
      weight.toArray().map((x, i) => x * (keepers[i] as number)),
      weight.shape,
    );
  };
  return {
    beforeStep(step) {
      if (step % 2) return;
      for (const [name, weight] of weights) {
        const sorted = weight.toArray().map(Math.abs).sort();
        const threshold = sorted[sorted.length >> 1] as number;
        masks.get(name)?.write(weight.toArray().map((x) => (Math.abs(x) > threshold ? 1 : 0)));
      }
    },
    transformWeight: (name, weight) => {
      const mask = masks.get(name) as Tensor;
      return recordStep(masked(weight, mask), [weight], (gradient, tape) => tape.accumulate(weight, masked(gradient, mask)));
    },
    state: () => masks,
  };
}
