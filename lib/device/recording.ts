/** Work of the GPU, recorded once and run again without the cost of asking for each kernel: a CUDA graph. */
import { NativeObject, type NativeHandle } from "../native/native_object.js";
import { gpuAddon } from "./gpu.js";

interface RecordingBindings {
  recordingCreate(work: () => void): NativeHandle;
  recordingRun(recording: NativeHandle): void;
  recordingOperations(recording: NativeHandle): number;
}

const native = (): RecordingBindings => gpuAddon<RecordingBindings>();

/**
 * Everything that a function gives to the default stream. Tensors that it makes and keeps are filled again by each run; what it
 * reads has to stay where it is, and what it releases is memory of the recording, or of other recordings, which never run at the
 * same time. Recordings of a thread may pass on what they release: copy what one made before another runs. `dispose` waits until it
 * no longer runs.
 *
 * @example
 * const y: DeviceTensor[] = [];
 * encode(x); // once, so that weights are in their place
 * using recording = new Recording(() => y.push(encode(x)));
 * next.copyTo(x);
 * recording.run(); // y[0] is now encode(next)
 */
export class Recording extends NativeObject {
  /**
   * Records, and computes nothing yet. `work` must have been done once before, so that weights are in their place; it may
   * neither read values back nor bring new ones.
   * @throws UsmLiteError GPU_FAILED when it does; NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY
   */
  constructor(work: () => void) {
    super(native().recordingCreate(work));
  }

  /** Returns before the GPU has done it. */
  run(): void {
    native().recordingRun(this.handle);
  }

  /** Kernels, copies and fills that a run gives to the GPU. */
  get operations(): number {
    return native().recordingOperations(this.handle);
  }
}
