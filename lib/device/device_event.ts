/** Events: moments in the work of the GPU. */
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { gpuAddon } from "./gpu.js";

interface EventHandle {
  readonly released: boolean;
  release(): void;
}

interface EventBindings {
  eventCreate(): EventHandle;
  eventRecord(event: EventHandle, on?: StreamHandle): void;
  eventDone(event: EventHandle): boolean;
  eventSynchronize(event: EventHandle): void;
  eventMilliseconds(event: EventHandle, earlier: EventHandle): number;
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
export class DeviceEvent implements Disposable {
  private readonly handle: EventHandle = native().eventCreate();

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

  get released(): boolean {
    return this.handle.released;
  }

  /** Safe to call twice. */
  dispose(): void {
    this.handle.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
