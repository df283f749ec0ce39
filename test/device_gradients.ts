/** Gradients as the tape of the CPU has them, of what tensors on the GPU were rounded to. */
import { Tape, Tensor, type DeviceTensor } from "../lib/operations.js";

export function gradientsOnCpu(
  inputs: readonly DeviceTensor[],
  gradient: DeviceTensor,
  operation: (inputs: Tensor[]) => Tensor,
): Float32Array[] {
  using tape = new Tape();
  const tensors = inputs.map((input) => input.toTensor());
  for (const tensor of tensors) tensor.requiresGrad = true;
  tape.backward(
    tape.record(() => operation(tensors)),
    gradient.toTensor(),
  );
  return tensors.map((tensor) => (tape.gradientOf(tensor) as Tensor).toArray());
}

/** The gradients of `inputs` by the tape of the GPU. @param gradient of the result; the tape takes it over */
export function gradientsOnGpu(inputs: readonly DeviceTensor[], gradient: Tensor, operation: (inputs: Tensor[]) => Tensor): Float32Array[] {
  using tape = new Tape();
  for (const input of inputs) input.requiresGrad = true;
  tape.backward(
    tape.record(() => operation([...inputs])),
    gradient,
  );
  return inputs.map((input) => (tape.gradientOf(input) as Tensor).toArray());
}
