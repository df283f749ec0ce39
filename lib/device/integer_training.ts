/**
 * Linear layers of training in whole numbers on the GPU: forward on the integer tensor cores, as packed weights are served there, to the
 * bit; backward through the dequantized values ("native" quantization-aware training, arXiv 2203.15952). Pure functions, as those of
 * gradient_operations.ts.
 */
import { deviceLinear } from "./device_linear.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import type { DeviceWeight, DeviceWeightHandle, IntegerActivations } from "./device_weight.js";
import type { DeviceLayerGradients, WantedGradients } from "./layer_gradients.js";
import { gpuAddon } from "./gpu.js";
import { deviceLinearGradient, deviceProduct, type DeviceScales } from "./training_operations.js";

interface IntegerTrainingBindings {
  deviceFillIntegerWeight(
    integers: DeviceWeightHandle,
    weight: DeviceTensorHandle,
    scale: DeviceTensorHandle,
    zeroPoint: DeviceTensorHandle | undefined,
    stream?: StreamHandle,
  ): void;
  devicePadBias(weight: DeviceWeightHandle, bias: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceRoundRows(x: DeviceTensorHandle, activations: IntegerActivations, stream?: StreamHandle): DeviceTensorHandle;
}

const native = (): IntegerTrainingBindings => gpuAddon<IntegerTrainingBindings>();

/** A weight in both forms, of the same values. */
export interface DeviceIntegerOperand {
  /** float32 (out, in), as {@link deviceFakeQuantize} left it. */
  readonly weight: DeviceTensor;
  /** {@link DeviceWeight.ofIntegers}, filled from it. */
  readonly integers: DeviceWeight;
}

/**
 * Writes the whole numbers of a rounded weight into `integers`, after all products that were asked for before.
 * @param weight float32 (out, in): levels, less the zero point, times the scale of their row or group. Where zero is no level, weights that
 * are zero count as pruned if the spec is sparse
 * @param scales of {@link deviceGroupScales}
 *
 * @example
 * const integers = DeviceWeight.ofIntegers("int4", 512, 256); // once
 * const scales = deviceGroupScales({ weight: master, spec: "int4" }); // in every step
 * const weight = deviceFakeQuantize({ weight: master, spec: "int4" }, scales);
 * deviceFillIntegerWeight(integers, weight, scales);
 * const y = deviceIntegerLinear(x, integers);
 */
export function deviceFillIntegerWeight(
  integers: DeviceWeight,
  weight: DeviceTensor,
  { scale, zeroPoint }: DeviceScales,
  stream?: DeviceStream,
): void {
  native().deviceFillIntegerWeight(integers.handle, weight.handle, scale.handle, zeroPoint?.handle, stream?.handle);
}

/** `x` with its rows rounded, as products in int8 arithmetic see it. */
export function deviceRoundRows(x: DeviceTensor, activations: IntegerActivations = "int8", stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceRoundRows(x.handle, activations, stream?.handle));
}

export interface DeviceIntegerLinearOptions {
  /** float32 (out) */
  bias?: DeviceTensor | undefined;
  /** "none" by default. */
  activation?: "none" | "relu" | "silu" | "gelu";
  /** Factor of what the layer adds to the residual; 1 by default. */
  scale?: number;
}

/**
 * `residualScale * residual + scale * activation(x·Wᵀ + bias)`, (frames, out) bfloat16: the bits of {@link deviceLinear} in int8
 * arithmetic with the packed weight of the same values.
 * @param x (frames, in), 16-bit floats
 */
export function deviceIntegerLinear(
  x: DeviceTensor,
  integers: DeviceWeight,
  options: DeviceIntegerLinearOptions & { residual?: DeviceTensor | undefined; residualScale?: number } = {},
): DeviceTensor {
  const { bias, ...others } = options;
  if (!bias) return deviceLinear(x, integers, others);
  using padded = new DeviceTensor(native().devicePadBias(integers.handle, bias.handle));
  return deviceLinear(x, integers, { ...others, bias: padded });
}

/**
 * Gradients of {@link deviceIntegerLinear}: that of the weight is a product with the rounded activations, that of `x` one with the
 * rounded weight, as if neither had been rounded. The residual's is `residualScale` times `gradient`.
 * @param gradient bfloat16 (frames, out)
 * @param options what the forward pass was given
 */
export function deviceIntegerLinearBackward(
  x: DeviceTensor,
  { weight, integers }: DeviceIntegerOperand,
  gradient: DeviceTensor,
  { bias, activation = "none", scale = 1, wantsX, wantsWeight, wantsBias }: DeviceIntegerLinearOptions & WantedGradients,
): DeviceLayerGradients {
  const isPlain = activation === "none";
  using sums = isPlain ? undefined : deviceIntegerLinear(x, integers, { bias }); // again, rather than kept
  const layer = { activation, scale };
  const parts = isPlain && !wantsBias ? undefined : deviceLinearGradient(gradient, layer, { sums, wantSum: !isPlain, wantBias: wantsBias });
  const sumGradient = parts?.sum ?? gradient;
  const factor = parts?.sum ? 1 : scale; // a scale alone is left to the products
  const gradients: DeviceLayerGradients = { bias: parts?.bias };
  if (wantsX) {
    using narrow = weight.cast("bfloat16");
    gradients.x = deviceProduct({ matrix: sumGradient }, { matrix: narrow }, factor);
  }
  if (wantsWeight) {
    using seen = deviceRoundRows(x, integers.activations);
    gradients.weight = deviceProduct({ matrix: sumGradient, transposed: true }, { matrix: seen }, factor, "float32");
  }
  parts?.sum?.dispose();
  return gradients;
}
