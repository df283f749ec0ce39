/** One computation on both devices, and what comes out of it. */
import "./gpu.js";
import { DeviceTensor, Tape, Tensor } from "../lib/operations.js";
import { randomTensor } from "./gradient.js";

/** Values that bfloat16 holds, so that both devices compute with the same. */
export const rounded = (shape: readonly number[], seed: number): Tensor => DeviceTensor.from(randomTensor(shape, seed)).toTensor();

/** The same tensors on either device; frames are bfloat16 on the GPU, the others float32. */
export function onBoth<Names extends string>(
  tensors: Record<Names, Tensor>,
  frames: readonly Names[],
): { cpu: Record<Names, Tensor>; gpu: Record<Names, Tensor> } {
  const entries = Object.entries<Tensor>(tensors) as [Names, Tensor][];
  const gpu = entries.map(([name, tensor]) => [name, DeviceTensor.from(tensor, frames.includes(name) ? "bfloat16" : "float32")] as const);
  for (const [, tensor] of [...entries, ...gpu]) tensor.requiresGrad = true;
  return { cpu: tensors, gpu: Object.fromEntries(gpu) as unknown as Record<Names, Tensor> };
}

/** Output, then the gradients of all `inputs`, for a given gradient of the output. */
export function outcome(inputs: Record<string, Tensor>, seed: Tensor, forward: () => Tensor): Record<string, Float32Array> {
  using tape = new Tape();
  const output = tape.record(forward);
  tape.backward(output, seed.clone()); // the tape releases it
  const gradients = Object.entries(inputs).map(([name, tensor]) => [name, (tape.gradientOf(tensor) as Tensor).toArray()] as const);
  return { output: output.toArray(), ...Object.fromEntries(gradients) };
}
