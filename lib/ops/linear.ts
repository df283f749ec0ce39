/** Linear layers: a matrix product with bias, activation, dropout and residual connection in the same pass. */
import { DeviceTensor } from "../device/device_tensor.js";
import { linearOnGpu } from "../device/inference.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import type { DropoutOptions } from "./activation.js";
import { denseLinear } from "./dense_linear.js";
import { accumulateResidual } from "./gradients.js";
import { accumulateLinear } from "./linear_gradient.js";
import { reshape } from "./reshape.js";
import { activeTape, recordStep } from "./tape.js";

/** What is done to each output of a linear layer in the same pass. */
export type Activation = "none" | "relu" | "silu";

/** What {@link linear} does besides the product. */
export interface LinearOptions {
  /** (out) */
  bias?: Tensor | undefined;
  /** `silu(x) = x / (1 + e^-x)`; "none" by default. `gelu` is there on the GPU alone. */
  activation?: Activation | "gelu";
  /** Factor of what the layer adds to the residual: 0.5 in a Conformer's feed-forward modules. */
  scale?: number;
  /** (frames, out), added to the result. */
  residual?: Tensor | undefined;
  /** Factor of the residual; 1 by default. */
  residualScale?: number;
  /** Zeroes elements of the activation with this probability in [0, 1) and divides the others by 1 - probability. */
  dropout?: DropoutOptions | undefined;
}

/** @throws UsmLiteError INVALID_ARGUMENT for `gelu` */
export function withoutGelu<Name extends string>(activation: Name): Exclude<Name, "gelu"> {
  if (activation !== "gelu") return activation as Exclude<Name, "gelu">;
  throw new UsmLiteError("INVALID_ARGUMENT", "gelu follows a product in the same pass only on the GPU; apply gelu to the result");
}

interface LinearBindings {
  linear(
    x: TensorHandle,
    weight: TensorHandle,
    bias: TensorHandle | undefined,
    activation: Activation,
    scale: number,
    residual: TensorHandle | undefined,
    residualScale: number,
    dropoutProbability: number,
    seed: number,
    keepPreActivation: boolean,
  ): [output: TensorHandle, preActivation?: TensorHandle];
}

const native = addon as LinearBindings;

/**
 * `residualScale * residual + scale * dropout(activation(x·Wᵀ + bias))`, (frames, out).
 *
 * @param x (frames, in)
 * @param weight (out, in), or (out, in, 1), or (out, in, 1, 1), as pointwise convolutions store it
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit, and for `gelu` on the CPU
 *
 * @example
 * const y = linear(Tensor.zeros([2, 64]), Tensor.zeros([128, 64]), { activation: "silu" }); // (2, 128)
 */
export function linear(x: Tensor, weight: Tensor, options: LinearOptions = {}): Tensor {
  if (x instanceof DeviceTensor) return weight instanceof DeviceTensor ? denseLinear(x, weight, options) : linearOnGpu(x, weight, options);
  if (weight.shape.length > 3) return linear(x, reshape(weight, weight.shape.slice(0, 3)), options);
  const { bias, scale = 1, residual, residualScale = 1, dropout } = options;
  const activation = withoutGelu(options.activation ?? "none");
  const probability = dropout?.probability ?? 0;
  const seed = dropout?.seed ?? 0;
  const recording = activeTape() !== undefined && [x, weight, bias].some((tensor) => tensor?.requiresGrad);
  // relu's slope can be read off its result, unless something was added to or taken from it afterwards.
  const outputTellsSlope = activation === "relu" && !residual && probability === 0 && scale > 0;
  const keepPreActivation = recording && activation !== "none" && !outputTellsSlope;

  const [outputHandle, preActivationHandle] = native.linear(
    x.handle,
    weight.handle,
    bias?.handle,
    activation,
    scale,
    residual?.handle,
    residualScale,
    probability,
    seed,
    keepPreActivation,
  );
  const output = new Tensor(outputHandle);
  const preActivation = outputTellsSlope ? output : preActivationHandle && new Tensor(preActivationHandle);

  return recordStep(output, [x, weight, bias, residual], (gradient, tape) => {
    if (recording) accumulateLinear(tape, gradient, { x, weight, bias }, { activation, preActivation, scale, dropout });
    accumulateResidual(tape, gradient, residual, residualScale);
  });
}
