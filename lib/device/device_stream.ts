/** Streams: queues of work of the GPU. */
import { NativeObject, type NativeHandle } from "../native/native_object.js";
import { gpuAddon } from "./gpu.js";

/** The native object behind a stream. */
export type StreamHandle = NativeHandle;

interface StreamBindings {
  streamCreate(): StreamHandle;
  streamSynchronize(handle?: StreamHandle): void;
}

/**
 * Work given to one stream is done in order; that of two streams may overlap. A tensor may be used on any: a stream waits
 * for what is under way on the tensor elsewhere, so results do not depend on streams. Tensors last used on a stream keep it until they go.
 *
 * @example
 * using stream = new DeviceStream();
 * const y = deviceLinear(x, weight, { stream });
 * stream.synchronize();
 */
export class DeviceStream extends NativeObject<StreamHandle> {
  /** @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD */
  constructor() {
    super(gpuAddon<StreamBindings>().streamCreate());
  }

  /** Waits until all work given to it is done. @throws UsmLiteError GPU_FAILED when some of it failed */
  synchronize(): void {
    gpuAddon<StreamBindings>().streamSynchronize(this.handle);
  }
}

/**
 * Waits for the work of the default stream.
 * @throws UsmLiteError GPU_FAILED when some of it failed
 *
 * @example
 * const begin = performance.now();
 * deviceLinear(x, weight); // returns before it is done
 * synchronizeGpu();
 * const milliseconds = performance.now() - begin;
 */
export function synchronizeGpu(): void {
  gpuAddon<StreamBindings>().streamSynchronize();
}
