/**
 * Forward passes of an encoder on the GPU. A pass over few frames takes the GPU less time than asking it for hundreds of kernels
 * takes; passes of shapes that come again are therefore recorded, and run with one call.
 */
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
  private readonly recording: Recording;
  private hidden: DeviceTensor | undefined;

  constructor(room: readonly number[], features: DeviceTensor, offsets: SequenceOffsets, forward: RecordedPassesOptions["forward"]) {
    const roomOffsets = new SequenceOffsets(room);
    this.features = keep(DeviceTensor.zeros([roomOffsets.frames, ...features.shape.slice(1)], features.type));
    this.sequences = keep(new DeviceSequences(roomOffsets));
    placeSequences(roomOffsets, this.sequences);
    this.fill(features, offsets);
    tidy(() => void forward(this.features, roomOffsets)); // brings weights and positions to the GPU
    this.recording = new Recording(() => {
      this.hidden = keep(tidy(() => forward(this.features, roomOffsets).hidden)) as DeviceTensor;
    });
  }

  /** (`frames` hidden frames, hidden) */
  run(features: DeviceTensor, offsets: SequenceOffsets, frames: number): DeviceTensor {
    this.fill(features, offsets);
    this.recording.run();
    using rows = (this.hidden as DeviceTensor).rows(0, frames);
    return rows.clone();
  }

  dispose(): void {
    this.recording.dispose();
    for (const part of [this.features, this.sequences, this.hidden]) part?.dispose();
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
  private readonly capacity: number;
  private readonly maximumFrames: number;

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
    if (!pass && !this.seen.has(shape)) {
      if (this.seen.size === rememberedShapes) this.seen.clear();
      this.seen.add(shape);
      return forward(features, offsets);
    }
    pass ??= new RecordedPass(room, features, offsets, forward);
    this.passes.delete(shape);
    this.passes.set(shape, pass);
    if (this.passes.size > this.capacity) this.forget((this.passes.keys().next() as { value: string }).value);
    return { hidden: pass.run(features, offsets, hiddenOffsets.frames), offsets: hiddenOffsets };
  }

  /** Recordings there are. */
  get count(): number {
    return this.passes.size;
  }

  /** Gives all recordings back: to be called when weights change or go. */
  dispose(): void {
    for (const shape of [...this.passes.keys()]) this.forget(shape);
    this.seen.clear();
  }

  private forget(shape: string): void {
    this.passes.get(shape)?.dispose();
    this.passes.delete(shape);
  }
}

/** The length that sequences of `frames` frames are recorded for. */
function roomFor(frames: number): number {
  const step = Math.max(minimumStep, 2 ** Math.floor(Math.log2(Math.max(frames, 1))) / lengthsPerOctave);
  return Math.ceil(frames / step) * step;
}
