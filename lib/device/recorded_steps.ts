/**
 * Steps of a decoder on the GPU, a token of each of some sequences at a time. A step is a hundred kernels of a few microseconds, which take
 * longer to ask for than to run: from the second one on it is a CUDA graph.
 */
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { DeviceSequences } from "./device_sequences.js";
import { DeviceTensor } from "./device_tensor.js";
import { placeSequences } from "./placement.js";
import { Recording } from "./recording.js";

/** Rows of keys and values that each sequence looks at. */
export interface KeyRows {
  readonly offsets: SequenceOffsets;
  /** int32, as many as `offsets` has frames */
  readonly rows: Tensor;
}

/** What a step is given. */
export interface TokenStep {
  /** (sequences, hidden) */
  readonly x: Tensor;
  /** The tokens of each sequence, this one included. */
  readonly own: KeyRows;
  /** What each is about. */
  readonly cross: KeyRows;
}

/** How many rows there are of each kind, and most of a sequence. */
export interface KeyRoom {
  readonly rows: number;
  readonly longest: number;
}

interface RecordedStepsOptions {
  /** The step, (sequences, hidden): no value may decide what it does, and nothing of it may be left on the CPU. */
  readonly forward: (step: TokenStep & { readonly queries: SequenceOffsets }) => Tensor;
  readonly own: KeyRoom;
  readonly cross: KeyRoom;
}

/** A {@link KeyRows} that is filled again for every step. */
class RefilledRows implements KeyRows {
  readonly offsets: SequenceOffsets;
  readonly rows: Tensor;
  private readonly placed: DeviceSequences;

  constructor(count: number, { rows, longest }: KeyRoom) {
    this.offsets = new SequenceOffsets(new Array<number>(count).fill(longest));
    this.rows = keep(Tensor.from(new Int32Array(count * longest).fill(rows - 1)));
    this.placed = keep(DeviceSequences.ofRows(this.offsets, this.rows));
    placeSequences(this.offsets, this.placed);
  }

  /** Sequences beyond those given look at no rows. */
  refill({ offsets, rows }: KeyRows): void {
    const absent = new Array<number>(this.offsets.lengths.length - offsets.lengths.length).fill(0);
    this.placed.refill(absent.length > 0 ? new SequenceOffsets([...offsets.lengths, ...absent]) : offsets, { rows });
  }

  dispose(): void {
    this.placed.dispose();
    this.rows.dispose();
  }
}

/** Steps of up to a number of sequences. */
class RecordedStep {
  private readonly x: DeviceTensor;
  private readonly queries: SequenceOffsets;
  private readonly placedQueries: DeviceSequences;
  private readonly own: RefilledRows;
  private readonly cross: RefilledRows;
  private recording: Recording | undefined;
  private output: DeviceTensor | undefined;
  private isWarm = false;

  constructor(
    private readonly options: RecordedStepsOptions,
    [most, hidden]: readonly [number, number],
  ) {
    this.x = keep(DeviceTensor.zeros([most, hidden]));
    this.queries = new SequenceOffsets(new Array<number>(most).fill(1));
    this.placedQueries = keep(new DeviceSequences(this.queries));
    placeSequences(this.queries, this.placedQueries);
    this.own = new RefilledRows(most, options.own);
    this.cross = new RefilledRows(most, options.cross);
  }

  run({ x, own, cross }: TokenStep): Tensor {
    const count = x.dim(0);
    tidy(() => DeviceTensor.from(x).copyTo(this.x.rows(0, count)));
    this.own.refill(own);
    this.cross.refill(cross);
    const { queries } = this;
    const forward = (): Tensor => tidy(() => this.options.forward({ x: this.x, own: this.own, cross: this.cross, queries }));
    if (!this.isWarm) {
      this.isWarm = true; // weights are in their place after it
      return tidy(() => forward().rows(0, count));
    }
    this.recording ??= new Recording(() => {
      this.output = keep(forward()) as DeviceTensor;
    });
    this.recording.run();
    return tidy(() => (this.output as DeviceTensor).rows(0, count).clone());
  }

  dispose(): void {
    this.recording?.dispose();
    for (const part of [this.x, this.placedQueries, this.own, this.cross, this.output]) part?.dispose();
  }
}

export class RecordedSteps {
  /** By most sequences: as they end one by one, not every number of them is worth a recording. */
  private readonly steps = new Map<number, RecordedStep>();

  constructor(private readonly options: RecordedStepsOptions) {}

  /** (sequences, hidden) @param step its `x` on the CPU */
  run(step: TokenStep): Tensor {
    const [count = 0, hidden = 0] = step.x.shape;
    const most = 2 ** Math.ceil(Math.log2(count));
    let recorded = this.steps.get(most);
    if (!recorded) this.steps.set(most, (recorded = new RecordedStep(this.options, [most, hidden])));
    return recorded.run(step);
  }

  /** Gives all recordings back. */
  dispose(): void {
    for (const step of this.steps.values()) step.dispose();
    this.steps.clear();
  }
}
