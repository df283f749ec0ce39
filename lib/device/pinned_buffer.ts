/** Page-locked memory of the host, for copies that go on while the process does other things. */
import { gpuAddon } from "./gpu.js";

/** The native object behind a pinned buffer. */
export interface PinnedBufferHandle {
  readonly released: boolean;
  release(): void;
}

interface PinnedBufferBindings {
  pinnedCreate(bytes: number): PinnedBufferHandle;
  pinnedBytes(pinned: PinnedBufferHandle): ArrayBuffer;
}

const native = (): PinnedBufferBindings => gpuAddon<PinnedBufferBindings>();

/**
 * float32 values in memory that the GPU reads and writes on its own ({@link DeviceTensor.writeFrom}, {@link DeviceTensor.readInto}). Other copies from the host go through
 * such memory as well, without anybody having to think of it; this is for those who want to wait later.
 *
 * @example
 * const buffer = new PinnedBuffer(1000);
 * const copied = new DeviceEvent();
 * y.readInto(buffer); // returns at once
 * copied.record();
 * // .. other work ..
 * copied.synchronize();
 * buffer.values; // those of y
 */
export class PinnedBuffer implements Disposable {
  readonly handle: PinnedBufferHandle;
  /** Must not be touched while a copy is under way. Stays readable after {@link PinnedBuffer.dispose}. */
  readonly values: Float32Array;

  /** @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD; OUT_OF_MEMORY when the machine cannot lock as much; INVALID_ARGUMENT for no values */
  constructor(count: number) {
    this.handle = native().pinnedCreate(4 * count);
    this.values = new Float32Array(native().pinnedBytes(this.handle));
  }

  get released(): boolean {
    return this.handle.released;
  }

  /** Lets go of the memory, which is given back when `values` are gone as well. Safe to call twice. */
  dispose(): void {
    this.handle.release();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
