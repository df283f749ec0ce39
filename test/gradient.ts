/** Finite-difference checking of an operation's gradients. */
import type { ExecutionContext } from "ava";
import { Tape } from "../lib/ops/tape.js";
import { tidy } from "../lib/tensor/scope.js";
import { Tensor } from "../lib/tensor/tensor.js";

/** Deterministic values in [-1, 1). */
export function randomValues(count: number, seed: number): Float32Array {
  let state = (seed * 2654435761 + 1) >>> 0;
  const values = new Float32Array(count);
  for (let i = 0; i < count; i++) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    values[i] = state / 2 ** 31 - 1;
  }
  return values;
}

export function randomTensor(shape: readonly number[], seed: number): Tensor {
  return Tensor.from(
    randomValues(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ),
    shape,
  );
}

/**
 * Compares the tape's gradient of a random projection of `operation(inputs)` with central differences, for every
 * element of every float input (or `samples` of them).
 */
export function checkGradients(
  t: ExecutionContext,
  operation: (inputs: Tensor[]) => Tensor,
  inputs: Tensor[],
  options: { step?: number; tolerance?: number; samples?: number } = {},
): void {
  const { step = 1e-2, tolerance = 2e-2, samples = 40 } = options;
  const tape = new Tape();
  for (const input of inputs) input.requiresGrad = input.dtype === "float32";
  const output = tape.record(() => operation(inputs));
  const weights = randomValues(output.size, 99);
  tape.backward(output, Tensor.from(weights, output.shape));

  const project = (): number =>
    tidy(() => {
      const values = operation(inputs).toArray();
      let sum = 0;
      for (let i = 0; i < values.length; i++) sum += (values[i] as number) * (weights[i] as number);
      return sum;
    });

  inputs.forEach((input, which) => {
    if (input.dtype !== "float32") return;
    const analytic = tape.gradientOf(input)?.toArray();
    if (!analytic) return t.fail(`input ${which} got no gradient`);
    const values = input.toArray();
    const stride = Math.max(1, Math.floor(values.length / samples));
    const scale = Math.max(1e-3, ...analytic.map(Math.abs));
    for (let i = 0; i < values.length; i += stride) {
      const original = values[i] as number;
      values[i] = original + step;
      input.write(values);
      const above = project();
      values[i] = original - step;
      input.write(values);
      const below = project();
      values[i] = original;
      input.write(values);
      const numeric = (above - below) / (2 * step);
      const difference = Math.abs(numeric - (analytic[i] as number)) / scale;
      t.true(difference < tolerance, `input ${which}[${i}]: analytic ${analytic[i]}, numeric ${numeric}`);
    }
  });
  tape.dispose();
}
