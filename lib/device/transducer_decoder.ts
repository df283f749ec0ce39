/**
 * Greedy decoding of transducers on the GPU (Graves 2012; durations: Xu et al. 2023). Utterances take their steps together; what the
 * encoder says of them, where each stands and what the network knows stay there, and tokens come back in blocks of steps. Blocks are
 * recorded, since a step is half a dozen kernels of a few microseconds.
 */
import { packWeight } from "../quant/packed_weight.js";
import { UsmLiteError } from "../errors.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { deviceLinear } from "./device_linear.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { DeviceWeight } from "./device_weight.js";
import { gpuAddon } from "./gpu.js";
import { PendingDownload } from "./pending_download.js";
import { Recording } from "./recording.js";
import { DeviceLstm } from "./transducer_lstm.js";
import { TransducerState, uploadState, type LayerStates } from "./transducer_state.js";
import { stepColumns, stepsPerBlock, tellSteps, type TransducerStep } from "./transducer_steps.js";

interface TransducerBindings {
  deviceTransducerJoin(frames: DeviceTensorHandle, prediction: DeviceTensorHandle, state: DeviceTensorHandle): DeviceTensorHandle;
  deviceTransducerDecide(
    scores: DeviceTensorHandle,
    blank: number,
    maximumSymbols: number,
    durations: readonly number[],
    state: DeviceTensorHandle,
    steps: DeviceTensorHandle,
  ): void;
}

const native = (): TransducerBindings => gpuAddon<TransducerBindings>();

export interface TransducerLayer {
  /** (out, in) */
  readonly weight: Tensor;
  readonly bias: Tensor | undefined;
}

/** Prediction and joint network as floats, of which the GPU gets float16. */
export interface TransducerWeights {
  /** (vocabulary, hidden) */
  readonly embedding: Tensor;
  /** Of each layer of the long short-term memory; biases (4 * hidden). */
  readonly layers: readonly { readonly input: TransducerLayer; readonly recurrent: TransducerLayer }[];
  readonly projector: TransducerLayer;
  /** (vocabulary + durations, hidden) */
  readonly head: TransducerLayer;
}

/** What tokens mean to {@link TransducerDecoder}, and when it goes on. */
export interface TransducerRules {
  readonly blankId: number;
  /** Frames that each of the last outputs of the head goes on by; empty for a transducer without durations. */
  readonly durations: readonly number[];
  readonly maximumSymbolsPerFrame: number;
}

/** One utterance, or a part of one. */
export interface TransducerUtterance {
  /** (frames, joint), at least one frame, what the encoder says; on the GPU bfloat16 or float32, which {@link TransducerDecoder.decode} copies. */
  readonly frames: Float32Array | DeviceTensor;
  /** What earlier decoding left, here or, as hidden and cell state of each layer, elsewhere; absent: nothing was said yet. */
  readonly state: TransducerState | Float32Array | undefined;
  /** Said at the first of these frames already. */
  readonly symbolsAtFrame: number;
}

interface PlacedLayer {
  readonly weight: DeviceWeight;
  readonly bias: DeviceTensor | undefined;
}

/** Durations that the kernels choose from. */
export const maximumDurations = 16;
const standingColumns = 4;
const minimumRoom = 64; // frames

/** Of a layer, what steps of even number begin with, and what those of odd number do. */
interface LayerMemory extends LayerStates {
  readonly odd: DeviceTensor;
}

/** Memory of a number of utterances with room for frames, and the steps over it. */
interface Batch {
  readonly utterances: number;
  readonly frames: DeviceTensor;
  readonly standing: DeviceTensor;
  readonly steps: DeviceTensor;
  readonly layers: readonly LayerMemory[];
  /** Of two blocks of steps: one is looked at while the GPU takes the other. */
  readonly downloads: readonly [PendingDownload, PendingDownload];
  recording: Recording | undefined;
}

/**
 * Prediction and joint network of a transducer on the GPU, which decodes greedily what the encoder says (Graves 2012; Xu et al. 2023).
 *
 * @example
 * using decoder = new TransducerDecoder(weights, { blankId: 1024, durations: [0, 1, 2, 3, 4], maximumSymbolsPerFrame: 10 });
 * const ids: number[] = [];
 * const [state] = decoder.decode([{ frames, state: undefined, symbolsAtFrame: 0 }], (_, { id }) => ids.push(id)); // blanks too
 * state.dispose();
 */
export class TransducerDecoder implements Disposable {
  private readonly table: DeviceTensor;
  private readonly layers: readonly DeviceLstm[];
  private readonly projector: PlacedLayer;
  private readonly head: PlacedLayer;
  private batch: Batch | undefined;

  /**
   * Brings the weights to the GPU; `weights` are not needed afterwards.
   * @throws UsmLiteError NO_GPU, OUT_OF_MEMORY; INVALID_ARGUMENT unless `hidden` is a multiple of 8
   */
  constructor(
    weights: TransducerWeights,
    private readonly rules: TransducerRules,
  ) {
    const hidden = weights.embedding.dim(1);
    if (hidden % 8 !== 0)
      throw new UsmLiteError("INVALID_ARGUMENT", `there are ${hidden} hidden values; on the GPU they must be a multiple of 8`);
    this.table = keep(DeviceTensor.from(weights.embedding, "float16"));
    this.layers = weights.layers.map(({ input, recurrent }) => new DeviceLstm(input, recurrent));
    this.projector = placed(weights.projector);
    this.head = placed(weights.head);
  }

  /**
   * Decodes utterances side by side; what one gives does not depend on the others.
   * @param onStep told of each step of each utterance, in order
   * @returns the state of each utterance, for more of its frames: to be disposed of
   */
  decode(utterances: readonly TransducerUtterance[], onStep: (utterance: number, step: TransducerStep) => void): TransducerState[] {
    if (utterances.length === 0) return [];
    const { batch, ends, longest } = this.fill(utterances);
    const farthest = Math.max(1, ...this.rules.durations); // frames that a step goes on by
    let [begun, taken] = [0, 0]; // blocks
    for (let left = longest; left > 0;) {
      // The GPU does not wait for its steps to be looked at where it is sure that there will be more of them.
      while (begun === taken || (begun === taken + 1 && left > (stepsPerBlock + 1) * farthest)) {
        this.run(batch);
        (batch.downloads[begun++ % 2] as PendingDownload).begin(batch.steps);
      }
      left = tellSteps((batch.downloads[taken++ % 2] as PendingDownload).take(), ends, onStep);
    }
    return TransducerState.ofBatch(batch.layers, utterances.length);
  }

  dispose(): void {
    this.release();
    this.table.dispose();
    for (const layer of this.layers) layer.dispose();
    for (const { weight, bias } of [this.projector, this.head]) {
      weight.dispose();
      bias?.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  private get hiddenSize(): number {
    return this.table.dim(1);
  }

  /** Memory for `count` utterances of so many frames: that of those before, where it fits. */
  private batchFor(count: number, frames: number, type: "bfloat16" | "float32"): Batch {
    const { batch } = this;
    if (batch?.utterances === count && batch.frames.type === type && batch.frames.dim(0) >= frames) return batch;
    this.release();
    const zeros = (rows: number, columns: number, of: "bfloat16" | "float16" | "float32"): DeviceTensor =>
      keep(DeviceTensor.zeros([rows, columns], of));
    const size = this.hiddenSize;
    const values = stepsPerBlock * count * stepColumns;
    return (this.batch = {
      utterances: count,
      frames: zeros(Math.max(minimumRoom, 2 ** Math.ceil(Math.log2(frames))), size, type),
      standing: zeros(count, standingColumns, "float32"),
      steps: zeros(stepsPerBlock * count, stepColumns, "float32"),
      layers: this.layers.map(() => ({
        hidden: zeros(count, size, "float16"),
        odd: zeros(count, size, "float16"),
        cell: zeros(count, size, "float32"),
      })),
      downloads: [new PendingDownload(values), new PendingDownload(values)],
      recording: undefined,
    });
  }

  private release(): void {
    const { batch } = this;
    this.batch = undefined;
    if (!batch) return;
    batch.recording?.dispose();
    const tensors = [batch.frames, batch.standing, batch.steps, ...batch.layers.flatMap(({ hidden, odd, cell }) => [hidden, odd, cell])];
    for (const part of [...tensors, ...batch.downloads]) part.dispose();
  }

  /** Brings utterances to where a batch begins; `ends` are the rows behind the last frame of each, `longest` the frames of the longest. */
  private fill(utterances: readonly TransducerUtterance[]): { batch: Batch; ends: number[]; longest: number } {
    const ends: number[] = [];
    let [longest, end] = [0, 0];
    tidy(() => {
      const frames = placedFrames(utterances, this.hiddenSize);
      const total = frames.reduce((sum, rows) => sum + rows.dim(0), 0);
      const batch = this.batchFor(utterances.length, total, frames[0]?.type as "bfloat16" | "float32");
      const standing: number[] = [];
      frames.forEach((rows, index) => {
        const { state, symbolsAtFrame } = utterances[index] as TransducerUtterance;
        const [begin, count] = [end, rows.dim(0)];
        end += count;
        ends.push(end);
        longest = Math.max(longest, count);
        rows.copyTo(batch.frames.rows(begin, end));
        standing.push(begin, end, symbolsAtFrame, state ? -1 : this.rules.blankId);
      });
      DeviceTensor.from(Tensor.from(standing, [utterances.length, standingColumns]), "float32").copyTo(batch.standing);
      this.fillStates(batch, utterances);
    });
    return { batch: this.batch as Batch, ends, longest };
  }

  private fillStates({ layers }: Batch, utterances: readonly TransducerUtterance[]): void {
    if (utterances.some(({ state }) => !state)) {
      for (const to of layers.flatMap(({ hidden, cell }) => [hidden, cell])) DeviceTensor.zeros(to.shape, to.type).copyTo(to);
    }
    utterances.forEach(({ state }, row) => {
      if (state instanceof TransducerState) state.copyTo(layers, row);
      else if (state) uploadState(state, layers, row);
    });
  }

  /** A block of steps: as it is at first, then recorded. */
  private run(batch: Batch): void {
    const block = (): void => {
      for (let step = 0; step < stepsPerBlock; step++) tidy(() => this.step(batch, step));
    };
    if (batch.recording) batch.recording.run();
    else {
      block();
      batch.recording = new Recording(block);
    }
  }

  private step(batch: Batch, step: number): void {
    const { blankId, durations, maximumSymbolsPerFrame } = this.rules;
    const joined = new DeviceTensor(
      native().deviceTransducerJoin(batch.frames.handle, this.predict(batch, step).handle, batch.standing.handle),
    );
    const scores = multiply(joined, this.head);
    const steps = batch.steps.rows(step * batch.utterances, (step + 1) * batch.utterances);
    native().deviceTransducerDecide(scores.handle, blankId, maximumSymbolsPerFrame, durations, batch.standing.handle, steps.handle);
  }

  /** (utterances, joint), with the token that each has just said. */
  private predict(batch: Batch, step: number): DeviceTensor {
    let x: DeviceTensor | undefined;
    this.layers.forEach((layer, index) => {
      const { hidden: even, odd, cell } = batch.layers[index] as LayerMemory;
      const [before, after] = step % 2 === 0 ? [even, odd] : [odd, even];
      layer.step(x ?? { table: this.table }, { state: batch.standing, before, after, cell });
      x = after;
    });
    return multiply(x as unknown as DeviceTensor, this.projector);
  }
}

/** Frames of all utterances on the GPU, in one type. */
function placedFrames(utterances: readonly TransducerUtterance[], size: number): DeviceTensor[] {
  const placed = utterances.map(({ frames }) =>
    frames instanceof DeviceTensor ? frames : DeviceTensor.from(Tensor.from(frames, [frames.length / size, size]), "float32"),
  );
  if (placed.every(({ type }) => type === "bfloat16")) return placed;
  return placed.map((frames) => (frames.type === "float32" ? frames : frames.cast("float32")));
}

const multiply = (x: DeviceTensor, { weight, bias }: PlacedLayer): DeviceTensor => deviceLinear(x, weight, { bias, batchInvariant: true });

function placed({ weight, bias }: TransducerLayer): PlacedLayer {
  return tidy(() => {
    const onGpu = DeviceWeight.from(packWeight(weight, "float32"), { arithmetic: "float16" });
    return { weight: onGpu, bias: bias && keep(onGpu.arrangeBias(bias)) };
  });
}
