/** Events: moments in the work of the GPU. */
import { NativeObject, type NativeHandle } from "../native/native_object.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { gpuAddon } from "./gpu.js";

interface EventBindings {
  eventCreate(): NativeHandle;
  eventRecord(event: NativeHandle, stream?: StreamHandle): void;
  eventDone(event: NativeHandle): boolean;
  eventSynchronize(event: NativeHandle): void;
  eventMilliseconds(event: NativeHandle, earlier: NativeHandle): number;
}

const native = (): EventBindings => gpuAddon<EventBindings>();

/**
 * A moment in a stream: when all that the stream had been given is done.
 *
 * @example
 * using begin = new DeviceEvent();
 * using end = new DeviceEvent();
 * begin.record();
 * deviceLinear(x, weight);
 * end.record();
 * end.millisecondsSince(begin); // on the GPU's own clock
 */
export class DeviceEvent extends NativeObject {
  /** @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD */
  constructor() {
    super(native().eventCreate());
  }

  /**
   * The moment is that after what the stream, the default one unless told otherwise, has been given so far.
   * @throws UsmLiteError GPU_FAILED in the work of a Recording
   */
  record(stream?: DeviceStream): void {
    native().eventRecord(this.handle, stream?.handle);
  }

  /** Whether the moment has come, or the GPU has failed before it; true before it was recorded. Does not wait. */
  get done(): boolean {
    return native().eventDone(this.handle);
  }

  /** Waits for the moment. @throws UsmLiteError GPU_FAILED when work before it failed */
  synchronize(): void {
    native().eventSynchronize(this.handle);
  }

  /** Waits for the moment. @throws UsmLiteError GPU_FAILED when work before it failed, or one of the two was never recorded */
  millisecondsSince(earlier: DeviceEvent): number {
    return native().eventMilliseconds(this.handle, earlier.handle);
  }
}
