/**
 * Forward passes of an encoder on the GPU. A pass over few frames takes the GPU less time than asking it for hundreds of kernels
 * takes; passes of shapes that come again are therefore recorded, and run with one call.
 */
import { UsmLiteError } from "../errors.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { keep, tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import { isBatchInvariant } from "./batch_invariance.js";
import { DeviceSequences } from "./device_sequences.js";
import { DeviceTensor } from "./device_tensor.js";
import { placeSequences } from "./placement.js";
import { Recording } from "./recording.js";

/** What an encoder makes of packed sequences of features. */
interface EncodedFrames {
  /** (hidden frames, hidden) */
  readonly hidden: Tensor;
  readonly offsets: SequenceOffsets;
}

interface RecordedPassesOptions {
  /** The forward pass: no value may decide what it does. */
  readonly forward: (features: Tensor, offsets: SequenceOffsets) => EncodedFrames;
  /** Hidden frames made of this many frames of features; never fewer for more. */
  readonly hiddenFrames: (frames: number) => number;
  /** Frames of features of the largest pass that is recorded: larger ones keep the GPU busy for longer than asking takes. Default 32,768, of log-mel frames. */
  readonly maximumFrames?: number;
  /** The length that sequences of so many frames are recorded for; default: {@link roomFor}, at most an eighth more. */
  readonly room?: (frames: number) => number;
  /** Recordings kept; default 16. */
  readonly capacity?: number;
}

// Shapes that were met once are remembered, to record those that come again.
const rememberedShapes = 256;
// Each power of two is divided into this many lengths: recorded passes compute at most an eighth more frames than they are given.
const lengthsPerOctave = 8;
const minimumStep = 8;

/** A recorded pass over sequences that are not longer than those it was recorded for. */
class RecordedPass {
  private readonly features: DeviceTensor;
  private readonly sequences: DeviceSequences;
  private recording: Recording | undefined;
  private hidden: DeviceTensor | undefined;

  constructor(room: readonly number[], features: DeviceTensor, offsets: SequenceOffsets, forward: RecordedPassesOptions["forward"]) {
    const roomOffsets = new SequenceOffsets(room);
    this.features = keep(DeviceTensor.zeros([roomOffsets.frames, ...features.shape.slice(1)], features.type));
    this.sequences = keep(new DeviceSequences(roomOffsets));
    placeSequences(roomOffsets, this.sequences);
    try {
      this.fill(features, offsets);
      tidy(() => void forward(this.features, roomOffsets)); // brings weights and positions to the GPU
      this.recording = new Recording(() => {
        this.hidden = keep(tidy(() => forward(this.features, roomOffsets).hidden)) as DeviceTensor;
      });
    } catch (error) {
      this.dispose();
      throw error;
    }
  }

  /** (`frames` hidden frames, hidden) */
  run(features: DeviceTensor, offsets: SequenceOffsets, frames: number): DeviceTensor {
    this.fill(features, offsets);
    this.recording?.run();
    using rows = (this.hidden as DeviceTensor).rows(0, frames);
    return rows.clone();
  }

  dispose(): void {
    for (const part of [this.recording, this.features, this.sequences, this.hidden]) part?.dispose();
  }

  private fill(features: DeviceTensor, offsets: SequenceOffsets): void {
    features.copyTo(this.features);
    this.sequences.refill(offsets);
  }
}

export class RecordedPasses {
  /** Least recently used first. */
  private readonly passes = new Map<string, RecordedPass>();
  private readonly seen = new Set<string>();
  /** Shapes that there was no memory to record for. */
  private readonly tooLarge = new Set<string>();
  private readonly capacity: number;
  private readonly maximumFrames: number;
  private readonly self = new WeakRef(this);

  constructor(private readonly options: RecordedPassesOptions) {
    this.capacity = options.capacity ?? 16;
    this.maximumFrames = options.maximumFrames ?? 1 << 15;
  }

  /**
   * The encoder's forward pass: recorded from the second time on that sequences of about these lengths come.
   * @param features (frames, feature size), or a vector of samples
   */
  run(features: DeviceTensor, offsets: SequenceOffsets): EncodedFrames {
    const { forward, hiddenFrames, room: lengthOf = roomFor } = this.options;
    const hiddenOffsets = new SequenceOffsets(offsets.lengths.map(hiddenFrames));
    if (hiddenOffsets.frames === 0 || offsets.frames > this.maximumFrames) return forward(features, offsets);
    const room = offsets.lengths.map(lengthOf).sort((a, b) => b - a);
    const shape = [features.type, isBatchInvariant() ? "in any batch" : "fastest", ...room].join(" ");
    let pass = this.passes.get(shape);
    if (!pass && (!this.seen.has(shape) || this.tooLarge.has(shape))) {
      if (this.seen.size === rememberedShapes) this.seen.clear();
      this.seen.add(shape);
      return forward(features, offsets);
    }
    pass ??= this.record(shape, room, features, offsets);
    if (!pass) return forward(features, offsets);
    this.passes.delete(shape);
    this.passes.set(shape, pass);
    holders.add(this.self);
    if (this.passes.size > this.capacity) this.forget((this.passes.keys().next() as { value: string }).value);
    return { hidden: pass.run(features, offsets, hiddenOffsets.frames), offsets: hiddenOffsets };
  }

  /** Undefined when there is no memory for it: a recording only saves time. */
  private record(shape: string, room: readonly number[], features: DeviceTensor, offsets: SequenceOffsets): RecordedPass | undefined {
    try {
      return new RecordedPass(room, features, offsets, this.options.forward);
    } catch (error) {
      if (!isOutOfMemory(error)) throw error;
      if (this.tooLarge.size === rememberedShapes) this.tooLarge.clear();
      this.tooLarge.add(shape);
      return undefined;
    }
  }

  /** Recordings there are. */
  get count(): number {
    return this.passes.size;
  }

  /** Gives all recordings back: to be called when weights change or go. */
  dispose(): void {
    this.forgetAll();
    this.seen.clear();
    this.tooLarge.clear();
  }

  /** Gives all recordings back; shapes that come again are recorded anew. */
  forgetAll(): void {
    for (const shape of [...this.passes.keys()]) this.forget(shape);
    holders.delete(this.self);
  }

  private forget(shape: string): void {
    this.passes.get(shape)?.dispose();
    this.passes.delete(shape);
  }
}

/** Those of this thread that have recordings. */
const holders = new Set<WeakRef<RecordedPasses>>();

/**
 * What `work` gives, with the memory of this thread's recordings if there is too little without: they only save time.
 * @throws UsmLiteError OUT_OF_MEMORY when that does not suffice
 */
export function withMemoryOfRecordings<Result>(work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    if (!isOutOfMemory(error) || holders.size === 0) throw error;
    for (const holder of [...holders]) {
      holder.deref()?.forgetAll();
      holders.delete(holder);
    }
    return work();
  }
}

const isOutOfMemory = (error: unknown): boolean => error instanceof UsmLiteError && error.code === "OUT_OF_MEMORY";

/** The length that sequences of `frames` frames are recorded for. */
function roomFor(frames: number): number {
  const step = Math.max(minimumStep, 2 ** Math.floor(Math.log2(Math.max(frames, 1))) / lengthsPerOctave);
  return Math.ceil(frames / step) * step;
}
