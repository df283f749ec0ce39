/** Gradients through fake quantization, by the tape. */
import { fakeQuantize, Tape, type FakeQuantizeOptions, type Tensor } from "../lib/operations.js";

export interface QuantizerGradients {
  readonly weight: Float32Array;
  readonly scale: Float32Array;
  readonly zeroPoint: Float32Array;
}

/** Of sum(upstream * fakeQuantize(weight)). */
export function quantizerGradients(weight: Tensor, upstream: Tensor, spec: string, options: FakeQuantizeOptions): QuantizerGradients {
  const parameters = [weight, options.scale, options.zeroPoint];
  for (const parameter of parameters) if (parameter) parameter.requiresGrad = true;
  using tape = new Tape();
  const output = tape.record(() => fakeQuantize(weight, spec, options));
  tape.backward(output, upstream.clone());
  const [w, s, z] = parameters.map((parameter) => (parameter ? tape.gradientOf(parameter)?.toArray() : undefined) ?? new Float32Array());
  for (const parameter of parameters) if (parameter) parameter.requiresGrad = false;
  return { weight: w as Float32Array, scale: s as Float32Array, zeroPoint: z as Float32Array };
}
