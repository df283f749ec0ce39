/** The most probable token of every frame, found on the GPU. */
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface BestPathBindings {
  deviceCtcBestPath(logits: DeviceTensorHandle, blank: number, stream?: StreamHandle): DeviceTensorHandle;
}

/**
 * Of each frame all that greedy decoding (Graves et al. 2006) needs: 12 bytes instead of a number for every token.
 * @param logits (frames, vocabulary), before softmax: bfloat16 or float16
 * @returns float32 (frames, 3): the id of the best token, the natural logarithm of its probability, and that of the blank's
 * @throws UsmLiteError INVALID_ARGUMENT for another type, or a blank outside of the vocabulary
 *
 * @example
 * const best = deviceCtcBestPath(logits, 0).toArray();
 * const ids = Array.from({ length: logits.dim(0) }, (_, frame) => best[3 * frame]);
 */
export function deviceCtcBestPath(logits: DeviceTensor, blank: number, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(gpuAddon<BestPathBindings>().deviceCtcBestPath(logits.handle, blank, stream?.handle));
}
