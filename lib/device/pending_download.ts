/** Copies from the GPU that are waited for later than they are asked for. */
import { DeviceEvent } from "./device_event.js";
import type { DeviceTensor } from "./device_tensor.js";
import { PinnedBuffer } from "./pinned_buffer.js";

/**
 * Takes values from the GPU while it goes on with other work.
 *
 * @example
 * using download = new PendingDownload(steps.size);
 * download.begin(steps); // returns at once
 * decide(steps); // the GPU fills `steps` again, after it has copied them
 * download.take(); // what they were
 */
export class PendingDownload implements Disposable {
  private readonly buffer: PinnedBuffer;
  private readonly copied = new DeviceEvent();

  /** @throws UsmLiteError as {@link PinnedBuffer} */
  constructor(count: number) {
    this.buffer = new PinnedBuffer(count);
  }

  /** Copies floats, not more than there is room for, after what the GPU was given before. It takes the place of a copy that nobody took. */
  begin(values: DeviceTensor): void {
    values.readInto(this.buffer);
    this.copied.record();
  }

  /** Waits for the copy, not for what the GPU was given after it. The values are there until the next one begins. */
  take(): Float32Array {
    this.copied.synchronize();
    return this.buffer.values;
  }

  dispose(): void {
    this.buffer.dispose();
    this.copied.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
