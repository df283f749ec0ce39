/** What tests of kernels multiply, and with what they compare. */
import "./gpu.js"; // first: it chooses the GPU that the addon finds
import { type Arithmetic, deviceLinear, DeviceTensor, type DeviceWeight, quantizeRows, Tensor } from "../lib/operations.js";

export const activationType = (arithmetic: Arithmetic): "bfloat16" | "float16" => (arithmetic === "float16" ? "float16" : "bfloat16");

/** What the kernel multiplies: x rounded to the type of activations, and for whole numbers to codes times scales. */
export function operand(x: Tensor, arithmetic: Arithmetic): Tensor {
  using device = DeviceTensor.from(x, activationType(arithmetic));
  if (arithmetic !== "int8") return device.toTensor();
  const { codes, scales } = quantizeRows(device, "int8");
  const [rows, columns] = x.shape as [number, number];
  const [values, scaleValues] = [codes.toTensor().toArray(), scales.toTensor().toArray()];
  codes.dispose();
  scales.dispose();
  return Tensor.from(
    Float32Array.from(values, (value, i) => value * (scaleValues[Math.floor(i / columns)] as number)),
    [rows, columns],
  );
}

/** Of the GPU, whole tiles. */
export const product = (x: Tensor, weight: DeviceWeight, arithmetic: Arithmetic): Float32Array =>
  deviceLinear(DeviceTensor.from(x, activationType(arithmetic)), weight, { batchInvariant: true })
    .toTensor()
    .toArray();

/** Types of activations, and how far rounding to them may put a result. */
export const floatTypes = [
  ["bfloat16", 2 ** -7],
  ["float16", 2 ** -10],
] as const;

/** A tensor on the GPU and, as the CPU sees it, what it was rounded to. */
export function rounded(values: Tensor, type: "bfloat16" | "float16" = "bfloat16"): { device: DeviceTensor; host: Tensor } {
  const device = DeviceTensor.from(values, type);
  return { device, host: device.toTensor() };
}
