/** Norms of the inputs of linear layers: what Wanda weighs weights with (Sun et al., ICLR 2024, arXiv 2306.11695). */
import { UsmLiteError } from "../errors.js";
import { keep } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { weightOfMatrix } from "../quant/weight_matrix.js";
import { weightsTimesInputs } from "./wanda_score.js";

/**
 * Sums of the squares of each input over the frames of the latest steps in which its layer was given any; layer drop leaves out some.
 *
 * @example
 * const norms = new ActivationNorms(new Map([[name, weight.dim(1)]]));
 * network.loss(batch, { training: false, random, step: 0, observeInput: norms.observe });
 * const mask = magnitudeMask(norms.score(name, weight), 2, 4);
 */
export class ActivationNorms {
  /** (steps, in): of each observed weight, the sums of its latest step first. */
  private readonly sums = new Map<string, Tensor>();
  private readonly heardNow = new Set<string>();

  /**
   * @param columns inputs of each observed weight, by its name
   * @param steps how many are kept: {@link ActivationNorms.nextStep} begins another
   */
  constructor(columns: ReadonlyMap<string, number>, steps = 1) {
    for (const [name, inputs] of columns) this.sums.set(name, keep(Tensor.zeros([steps, inputs])));
  }

  /** What is observed from here on belongs to another step. */
  nextStep(): void {
    this.heardNow.clear();
  }

  /** Adds x (frames, in), if `name` is among the observed weights. */
  readonly observe = (name: string, x: Tensor): void => {
    const sum = this.sums.get(name);
    if (!sum) return;
    const [totals, values, inputs] = [sum.toArray(), x.toArray(), sum.dim(1)];
    if (x.dim(-1) !== inputs) {
      throw new UsmLiteError("INVALID_ARGUMENT", `"${name}" has ${inputs} inputs but was given ${x.dim(-1)}`);
    }
    if (!this.heardNow.has(name)) totals.copyWithin(inputs, 0).fill(0, 0, inputs); // the oldest step falls out
    this.heardNow.add(name);
    for (let i = 0, column = 0; i < values.length; i++, column++) {
      if (column === inputs) column = 0;
      (totals[column] as number) += (values[i] as number) ** 2;
    }
    sum.write(totals);
  };

  /** Whether anything but zeros was observed. */
  heard(name: string): boolean {
    return (
      this.sums
        .get(name)
        ?.toArray()
        .some((sum) => sum > 0) ?? false
    );
  }

  /**
   * |w| times the norm of its input, the weight's shape.
   * @throws UsmLiteError INVALID_ARGUMENT when nothing was observed
   */
  score(name: string, weight: Tensor): Tensor {
    const sums = this.sums.get(name);
    if (!sums || !this.heard(name)) throw new UsmLiteError("INVALID_ARGUMENT", `no inputs of "${name}" were observed`);
    const norms = new Float32Array(sums.dim(1));
    sums.toArray().forEach((sum, i) => ((norms[i % norms.length] as number) += sum));
    norms.forEach((sum, column) => (norms[column] = Math.sqrt(sum)));
    using scores = weightsTimesInputs(weight, norms);
    return weightOfMatrix(scores, weight.shape);
  }

  /** The sums by weight name; a checkpoint keeps them. */
  state(): ReadonlyMap<string, Tensor> {
    return this.sums;
  }

  dispose(): void {
    for (const sum of this.sums.values()) sum.dispose();
  }
}
