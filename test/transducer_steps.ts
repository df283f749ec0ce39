/** A loss of transducers with its gradients, on either device. */
import { DeviceTensor, Tape, Tensor, tidy } from "../lib/operations.js";
import { scaledSum } from "../lib/ops/elementwise.js";
import { heldByBfloat16 } from "./device_steps.js";
import { operands, resultOf, type TransducerCase } from "./transducer_cases.js";

export type Device = "cpu" | "cuda";

/** Frames, predictions and weight, which the GPU rounds to bfloat16, as it holds them; the weight is a parameter there, and the bias float32. */
export function inputsOn(device: Device, one: TransducerCase, seed: number): Tensor[] {
  const values = operands(one, seed).map((tensor, index) => (index < 3 ? heldByBfloat16(tensor) : tensor));
  return device === "cpu" ? values : values.map((tensor, index) => DeviceTensor.from(tensor, index < 2 ? "bfloat16" : "float32"));
}

/** What a loss gives, and the gradients of frames, predictions, weight and bias. */
export function stepOn(
  device: Device,
  one: TransducerCase,
  seed: number,
  more: Parameters<typeof resultOf>[2] & { divergence?: number } = {},
): Float32Array[] {
  return tidy(() => {
    const { divergence: share, ...options } = more;
    const inputs = inputsOn(device, one, seed);
    for (const input of inputs) input.requiresGrad = true;
    using tape = new Tape();
    const { loss, infeasible } = tape.record(() => {
      const result = resultOf(one, inputs, options);
      return share ? { ...result, loss: scaledSum(result.loss, 1, result.divergence as Tensor, share) } : result;
    });
    tape.backward(loss);
    return [loss.toArray(), Float32Array.of(infeasible), ...inputs.map((input) => (tape.gradientOf(input) as Tensor).toArray())];
  });
}

export const parts = ["loss", "infeasible", "frames", "predictions", "weight", "bias"];
