/** Where the sequences of a packed batch lie, for operations on the GPU that look across frames. */
import { NativeObject, type NativeHandle } from "../native/native_object.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { trackInScope } from "../tensor/scope.js";
import type { Tensor, TensorHandle } from "../tensor/tensor.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { gpuAddon } from "./gpu.js";

/** The native object behind sequences on the GPU. */
export type DeviceSequencesHandle = NativeHandle;

interface DeviceSequencesBindings {
  deviceSequencesCreate(offsets: TensorHandle, rows?: TensorHandle, stream?: StreamHandle): DeviceSequencesHandle;
  deviceSequencesRefill(sequences: DeviceSequencesHandle, offsets: TensorHandle, rows?: TensorHandle, stream?: StreamHandle): void;
  deviceSequencesShorten(
    sequences: DeviceSequencesHandle,
    kernel: number,
    stride: number,
    padding: number,
    stream?: StreamHandle,
  ): DeviceSequencesHandle;
}

const native = (): DeviceSequencesBindings => gpuAddon<DeviceSequencesBindings>();

/**
 * {@link SequenceOffsets} in the memory of the GPU. Given back when its scope ends, by `dispose`, or by `using`.
 *
 * @example
 * using sequences = new DeviceSequences(new SequenceOffsets([120, 75])); // rows 0 to 119, 120 to 194
 * const heard = deviceAttention(query, key, value, sequences, { heads: 8 });
 */
export class DeviceSequences extends NativeObject<DeviceSequencesHandle> {
  /** Frames of each sequence. */
  readonly lengths: readonly number[];
  /** Frames of all sequences. */
  readonly frames: number;

  /**
   * @param handle one that an operation of the addon returned, instead of a new one
   * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY
   */
  constructor(
    offsets: SequenceOffsets,
    stream?: DeviceStream,
    handle: DeviceSequencesHandle = native().deviceSequencesCreate(offsets.tensor.handle, undefined, stream?.handle),
  ) {
    super(handle);
    this.lengths = offsets.lengths;
    this.frames = offsets.frames;
    trackInScope(this);
  }

  /**
   * Sequences of rows that lie anywhere, and may belong to several.
   * @param rows int32, as many as `offsets` has frames
   * @throws UsmLiteError INVALID_ARGUMENT for another number, or a row below 0
   */
  static ofRows(offsets: SequenceOffsets, rows: Tensor): DeviceSequences {
    return new DeviceSequences(offsets, undefined, native().deviceSequencesCreate(offsets.tensor.handle, rows.handle));
  }

  /** Frames of the longest sequence. */
  get longest(): number {
    return Math.max(...this.lengths);
  }

  /**
   * Where the sequences lie after a convolution, worked out on the GPU: right as well after {@link DeviceSequences.refill}.
   * @param outputs the same, worked out here
   */
  shorten(outputs: SequenceOffsets, { kernel, stride, padding }: { kernel: number; stride: number; padding: number }): DeviceSequences {
    return new DeviceSequences(outputs, undefined, native().deviceSequencesShorten(this.handle, kernel, stride, padding));
  }

  /**
   * Puts other sequences, as many, in the place of these, for the work that follows; `lengths` and `frames` stay, as the room there is.
   * @param rows int32, as {@link DeviceSequences.ofRows} takes them, where these were made with some; none beyond the last of those
   * @throws UsmLiteError INVALID_ARGUMENT when one is longer than {@link DeviceSequences.longest}, all have more frames, or rows are beyond
   */
  refill(offsets: SequenceOffsets, { rows, stream }: { rows?: Tensor | undefined; stream?: DeviceStream } = {}): void {
    native().deviceSequencesRefill(this.handle, offsets.tensor.handle, rows?.handle, stream?.handle);
  }
}
