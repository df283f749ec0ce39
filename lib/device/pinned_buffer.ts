/** Page-locked memory of the host, for copies that go on while the process does other things. */
import { NativeObject, type NativeHandle } from "../native/native_object.js";
import { gpuAddon } from "./gpu.js";

/** The native object behind a pinned buffer. */
export type PinnedBufferHandle = NativeHandle;

interface PinnedBufferBindings {
  pinnedCreate(bytes: number): PinnedBufferHandle;
  pinnedBytes(pinned: PinnedBufferHandle): ArrayBuffer;
}

const native = (): PinnedBufferBindings => gpuAddon<PinnedBufferBindings>();

/**
 * float32 values in memory that the GPU reads and writes on its own ({@link DeviceTensor.writeFrom}, {@link DeviceTensor.readInto}).
 * Other copies from the host go through such memory as well, without anybody having to think of it; this is for those who want to
 * wait later.
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
export class PinnedBuffer extends NativeObject<PinnedBufferHandle> {
  /** Must not be touched while a copy is under way. Stays readable after `dispose`; the memory is given back when these are gone as well. */
  readonly values: Float32Array;

  /** @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD; OUT_OF_MEMORY when the machine cannot lock as much; INVALID_ARGUMENT for no values */
  constructor(count: number) {
    super(native().pinnedCreate(4 * count));
    this.values = new Float32Array(native().pinnedBytes(this.handle));
  }
}
