/** What backward functions share. */
import { onGpu } from "../device/inference.js";
import { deviceAddProduct, deviceProduct, type ProductOperand } from "../device/training_operations.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { scaledSum } from "./elementwise.js";
import type { Tape } from "./tape.js";

/** Gives each input the gradient that a native backward pass returned for it, where it did. */
export function accumulateAll(tape: Tape, inputs: readonly (Tensor | undefined)[], handles: readonly (TensorHandle | undefined)[]): void {
  handles.forEach((handle, index) => {
    if (!handle) return;
    const gradient = new Tensor(handle); // owned by the scope unless the tape keeps it
    const input = inputs[index];
    if (input) tape.accumulate(input, gradient);
  });
}

/** The same of a layer on the GPU, whose gradients have names. */
export function accumulateParts<Name extends string>(
  tape: Tape,
  inputs: Readonly<Record<Name, Tensor | undefined>>,
  gradients: { readonly [Key in Name]?: Tensor | undefined },
): void {
  for (const name of Object.keys(inputs) as Name[]) {
    const [input, gradient] = [inputs[name], gradients[name]];
    if (input && gradient) tape.accumulate(input, gradient);
  }
}

/** Whether a backward pass needs to compute the gradient of this input. */
export const wants = (input: Tensor | undefined): boolean => input?.requiresGrad ?? false;

/**
 * Adds `factor * op(a)·op(b)` to the gradient of a tensor on the GPU: bfloat16 where activations were multiplied, float32 where parameters
 * were, whatever they were rounded to for it.
 */
export function accumulateDeviceProduct(
  tape: Tape,
  type: "bfloat16" | "float32",
  tensor: Tensor,
  a: ProductOperand,
  b: ProductOperand,
  factor = 1,
): void {
  if (!wants(tensor)) return;
  const sum = tape.gradientOf(tensor);
  if (sum) deviceAddProduct(onGpu(sum, "the gradient"), a, b, factor);
  else tape.accumulate(tensor, deviceProduct(a, b, factor, type));
}

/**
 * Adds to the gradient of a residual. To be done last: the residual takes over the memory of `gradient`, and what is added to it later
 * goes there.
 */
export function accumulateResidual(tape: Tape, gradient: Tensor, residual: Tensor | undefined, scale: number): void {
  if (!residual || !wants(residual)) return;
  tape.accumulate(residual, scale === 1 ? gradient.reshape(gradient.shape) : scaledSum(gradient, scale, gradient, 0));
}
