/** Norms of the inputs of linear layers: what Wanda weighs weights with (Sun et al., ICLR 2024, arXiv 2306.11695). */
import { UsmLiteError } from "../errors.js";
import { keep } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { weightOfMatrix } from "../quant/weight_matrix.js";
import { weightsTimesInputs } from "./wanda_score.js";

/**
 * Sums of the squares of each input over all frames that were observed.
 *
 * @example
 * const norms = new ActivationNorms(new Map([[name, weight.dim(1)]]));
 * network.loss(batch, { training: false, random, step: 0, observeInput: norms.observe });
 * const mask = magnitudeMask(norms.score(name, weight), 2, 4);
 */
export class ActivationNorms {
  private readonly sums = new Map<string, Tensor>();

  /** @param columns inputs of each observed weight, by its name */
  constructor(columns: ReadonlyMap<string, number>) {
    for (const [name, inputs] of columns) this.sums.set(name, keep(Tensor.zeros([inputs])));
  }

  /** Adds x (frames, in), if `name` is among the observed weights. */
  readonly observe = (name: string, x: Tensor): void => {
    const sum = this.sums.get(name);
    if (!sum) return;
    const [totals, values] = [sum.toArray(), x.toArray()];
    if (x.dim(-1) !== totals.length) {
      throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" has ${totals.length} inputs but was given ${x.dim(-1)}`);
    }
    for (let i = 0, column = 0; i < values.length; i++, column++) {
      if (column === totals.length) column = 0;
      (totals[column] as number) += (values[i] as number) ** 2;
    }
    sum.write(totals);
  };

  /**
   * |w| times the norm of its input, the weight's shape.
   * @throws UsmLiteError INVALID_ARGUMENT when nothing was observed
   */
  score(name: string, weight: Tensor): Tensor {
    const norms = this.sums.get(name)?.toArray().map(Math.sqrt);
    if (!norms?.some((norm) => norm > 0)) {
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `no inputs of "${name}" were observed before its mask was due; Wanda is for linear layers, from the second step on`,
      );
    }
    using scores = weightsTimesInputs(weight, norms);
    return weightOfMatrix(scores, weight.shape);
  }

  /** Forgets what was observed. */
  reset(): void {
    for (const sum of this.sums.values()) sum.write(new Float32Array(sum.size));
  }

  /** The sums by weight name; a checkpoint keeps them. */
  state(): ReadonlyMap<string, Tensor> {
    return this.sums;
  }

  dispose(): void {
    for (const sum of this.sums.values()) sum.dispose();
  }
}
