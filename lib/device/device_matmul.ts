/** Products of two matrices on the GPU. */
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface DeviceMatmulBindings {
  deviceMatmul(x: DeviceTensorHandle, w: DeviceTensorHandle, stream?: StreamHandle): DeviceTensorHandle;
}

/**
 * x wᵀ, both dense: sums in float32, rounded once. Uses cuBLASLt where it is installed (`USMLITE_CUBLASLT` names the file
 * when it is not on the loader's path), and a kernel of this package's otherwise. For weights that stay the same,
 * {@link deviceLinear} with a packed weight is faster.
 *
 * @param x (tokens, inputs), bfloat16 or float16
 * @param w (channels, inputs) of the same type
 * @returns (tokens, channels) of that type
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit; OUT_OF_MEMORY; TENSOR_RELEASED
 *
 * @example
 * const y = deviceMatmul(DeviceTensor.zeros([2, 64]), DeviceTensor.zeros([128, 64])); // (2, 128)
 */
export function deviceMatmul(x: DeviceTensor, w: DeviceTensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(gpuAddon<DeviceMatmulBindings>().deviceMatmul(x.handle, w.handle, stream?.handle));
}
