/** Linear layers with packed weights, for inference. */
import { DeviceTensor } from "../device/device_tensor.js";
import type { DeviceWeight } from "../device/device_weight.js";
import { linearOnGpu } from "../device/inference.js";
import { UsmLiteError } from "../errors.js";
import { addon } from "../native/addon.js";
import type { ActivationCoding } from "../quant/activation_coding.js";
import { PackedMatrix, type PackedMatrixHandle } from "../quant/packed_matrix.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import type { Activation, LinearOptions } from "./linear.js";

export type { ActivationCoding };

/**
 * `gelu`: x times the normal distribution function of x. `glu` halves the channels: channel i is multiplied by the sigmoid
 * of channel i + out / 2 (Dauphin et al., arXiv 1612.08083).
 */
export type PackedActivation = Activation | "gelu" | "glu";

/** What {@link packedLinear} does besides the product. */
export interface PackedLinearOptions extends Omit<LinearOptions, "dropout" | "activation"> {
  activation?: PackedActivation;
  /**
   * What the weights are multiplied by; default: as the weight says, `int8` unless it was made for another coding. Whole numbers are
   * multiplied several times faster than floats. Weights that are floats themselves always use `float32`.
   */
  activations?: ActivationCoding;
}

interface PackedLinearBindings {
  packedLinear(
    x: TensorHandle,
    weight: PackedMatrixHandle,
    bias: TensorHandle | undefined,
    activation: PackedActivation,
    scale: number,
    residual: TensorHandle | undefined,
    residualScale: number,
    activations: ActivationCoding,
  ): TensorHandle;
}

const native = addon as PackedLinearBindings;

/**
 * `residualScale * residual + scale * activation(x·Wᵀ + bias)`, (frames, out), or (frames, out / 2) after `glu`; not
 * differentiable. A row of `x` that holds NaN or infinity gives a row of NaN.
 *
 * @param x float32 (frames, in)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit, TENSOR_RELEASED when the weight was disposed of
 *
 * @example
 * using weight = PackedMatrix.from(packWeight(Tensor.zeros([128, 64]), "int4+2:4"));
 * const y = packedLinear(Tensor.zeros([2, 64]), weight); // (2, 128)
 */
export function packedLinear(x: Tensor, weight: PackedMatrix | DeviceWeight, options: PackedLinearOptions = {}): Tensor {
  if (x instanceof DeviceTensor) return linearOnGpu(x, weight, options);
  checkOnCpu(weight);
  const { bias, activation = "none", scale = 1, residual, residualScale = 1, activations = weight.activations } = options;
  return new Tensor(
    native.packedLinear(x.handle, weight.handle, bias?.handle, activation, scale, residual?.handle, residualScale, activations),
  );
}

/** Operands have to be on the same device. @throws UsmLiteError INVALID_ARGUMENT */
export function checkOnCpu(weight: PackedMatrix | DeviceWeight): asserts weight is PackedMatrix {
  if (weight instanceof PackedMatrix) return;
  throw new UsmLiteError(
    "INVALID_ARGUMENT",
    "the weight is on the GPU but x is on the CPU; copy x with DeviceTensor.from, or give a packed matrix",
  );
}
