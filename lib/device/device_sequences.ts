/** Where the sequences of a packed batch lie, for operations on the GPU that look across frames. */
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { trackInScope } from "../tensor/scope.js";
import type { TensorHandle } from "../tensor/tensor.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { gpuAddon } from "./gpu.js";

/** The native object behind sequences on the GPU. */
export interface DeviceSequencesHandle {
  readonly released: boolean;
  release(): void;
}

interface DeviceSequencesBindings {
  deviceSequencesCreate(offsets: TensorHandle, stream?: StreamHandle): DeviceSequencesHandle;
}

/** {@link SequenceOffsets} in the memory of the GPU. Given back when its scope ends, by `dispose`, or by `using`. */
export class DeviceSequences implements Disposable {
  readonly handle: DeviceSequencesHandle;
  /** Frames of each sequence. */
  readonly lengths: readonly number[];
  /** Frames of all sequences. */
  readonly frames: number;

  /** @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY */
  constructor(offsets: SequenceOffsets, stream?: DeviceStream) {
    this.handle = gpuAddon<DeviceSequencesBindings>().deviceSequencesCreate(offsets.tensor.handle, stream?.handle);
    this.lengths = offsets.lengths;
    this.frames = offsets.frames;
    trackInScope(this);
  }

  /** Frames of the longest sequence. */
  get longest(): number {
    return Math.max(...this.lengths);
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
