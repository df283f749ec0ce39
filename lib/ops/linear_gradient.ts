/** The backward pass of a linear layer: of the matrix product and of what follows it in the same kernel (activation, dropout, scale, bias). */
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import type { DropoutOptions } from "./activation.js";
import type { Activation } from "./linear.js";
import { accumulateProduct, asMatrix } from "./matmul.js";
import type { Tape } from "./tape.js";

interface LinearGradientBindings {
  linearGradient(
    gradient: TensorHandle,
    preActivation: TensorHandle | undefined,
    activation: Activation,
    scale: number,
    dropoutProbability: number,
    seed: number,
    wantSum: boolean,
    wantBias: boolean,
  ): [sumGradient: TensorHandle | undefined, biasGradient: TensorHandle | undefined];
}

const native = addon as LinearGradientBindings;

interface LinearGradientOptions {
  activation: Activation;
  /** (frames, out): the sums that the activation saw; for relu anything of the same sign. */
  preActivation: Tensor | undefined;
  scale: number;
  dropout: DropoutOptions | undefined;
  wantBias: boolean;
}

/**
 * From the gradient (frames, out) of a layer's output: that of the sum which its activation saw, times a remaining
 * `factor` for the matrix products to apply, and that of the bias (out).
 */
export function linearGradient(
  gradient: Tensor,
  options: LinearGradientOptions,
): { sumGradient: Tensor; factor: number; biasGradient: Tensor | undefined } {
  const { activation, preActivation, scale, dropout, wantBias } = options;
  const probability = dropout?.probability ?? 0;
  // Without activation and dropout nothing but a factor lies between the two gradients: no pass over memory.
  const onlyScaled = activation === "none" && probability === 0;
  if (onlyScaled && !wantBias) return { sumGradient: gradient, factor: scale, biasGradient: undefined };
  const [sum, bias] = native.linearGradient(
    gradient.handle,
    preActivation?.handle,
    activation,
    scale,
    probability,
    dropout?.seed ?? 0,
    !onlyScaled,
    wantBias,
  );
  return {
    sumGradient: sum ? new Tensor(sum) : gradient,
    factor: sum ? 1 : scale,
    biasGradient: bias && new Tensor(bias),
  };
}

/** What a linear layer read. */
interface LinearOperands {
  /** (frames, in) */
  readonly x: Tensor;
  /** (frames, in): what the weight was multiplied by, if that was not `x` itself. */
  readonly multiplied?: Tensor;
  /** (out, in), or another shape of as many elements. */
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
}

/** Adds to the gradients of input, weight and bias what follows from the gradient (frames, out) of the layer's output. */
export function accumulateLinear(
  tape: Tape,
  gradient: Tensor,
  { x, multiplied = x, weight, bias }: LinearOperands,
  options: Omit<LinearGradientOptions, "wantBias">,
): void {
  const { sumGradient, factor, biasGradient } = linearGradient(gradient, { ...options, wantBias: bias?.requiresGrad ?? false });
  if (bias && biasGradient) tape.accumulate(bias, biasGradient);
  accumulateProduct(tape, x, { matrix: sumGradient }, { matrix: asMatrix(weight) }, factor);
  accumulateProduct(tape, weight, { matrix: sumGradient, transposed: true }, { matrix: multiplied }, factor);
}
