/** Gradients as the tape of the CPU has them, of what tensors on the GPU were rounded to. */
import { Tape, Tensor, type DeviceTensor } from "../lib/index.js";

export function gradientsOnCpu(inputs: readonly DeviceTensor[], gradient: DeviceTensor, operation: (inputs: Tensor[]) => Tensor): Float32Array[] {
  using tape = new Tape();
  const tensors = inputs.map((input) => input.toTensor());
  for (const tensor of tensors) tensor.requiresGrad = true;
  tape.backward(tape.record(() => operation(tensors)), gradient.toTensor());
  return tensors.map((tensor) => (tape.gradientOf(tensor) as Tensor).toArray());
}
