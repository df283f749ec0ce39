/**
 * Greedy decoding of transducers on the GPU (Graves 2012; durations: Xu et al. 2023). Utterances take their steps together; where each
 * stands stays there, and tokens come back in blocks of steps. Blocks are recorded, since a step is half a dozen kernels of a few microseconds.
 */
import { packWeight } from "../quant/packed_weight.js";
import { UsmLiteError } from "../errors.js";
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { deviceLinear } from "./device_linear.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { DeviceWeight } from "./device_weight.js";
import { gpuAddon } from "./gpu.js";
import { Recording } from "./recording.js";
import { DeviceLstm } from "./transducer_lstm.js";

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
  /** (frames, joint), at least one frame, what the encoder says. */
  readonly frames: Float32Array;
  /** Hidden and cell state of each layer, as earlier decoding left them; absent: nothing was said yet. */
  readonly state: Float32Array | undefined;
  /** Said at the first of these frames already. */
  readonly symbolsAtFrame: number;
}

/** What was best at one step: the blank or a token, and the network's duration, before it is made to go on. */
export interface TransducerStep {
  readonly id: number;
  readonly duration: number;
  /** Natural logarithm of the id's probability. */
  readonly logProbability: number;
}

interface PlacedLayer {
  readonly weight: DeviceWeight;
  readonly bias: DeviceTensor | undefined;
}

/** Durations that the kernels choose from. */
export const maximumDurations = 16;
const stepsPerBlock = 8;
const stateColumns = 4;
const minimumRoom = 64; // frames

/** Memory of a number of utterances with room for frames, and the steps over it. */
interface Batch {
  readonly utterances: number;
  readonly room: number;
  readonly frames: DeviceTensor;
  readonly standing: DeviceTensor;
  readonly steps: DeviceTensor;
  /** Of each layer, what steps of even and of odd number begin with. */
  readonly hidden: readonly (readonly [even: DeviceTensor, odd: DeviceTensor])[];
  /** Of each layer. */
  readonly cells: readonly DeviceTensor[];
  recording: Recording | undefined;
}

/**
 * Prediction and joint network of a transducer on the GPU, which decodes greedily what the encoder says (Graves 2012; Xu et al. 2023).
 *
 * @example
 * using decoder = new TransducerDecoder(weights, { blankId: 1024, durations: [0, 1, 2, 3, 4], maximumSymbolsPerFrame: 10 });
 * const ids: number[] = [];
 * decoder.decode([{ frames, state: undefined, symbolsAtFrame: 0 }], (_, { id }) => ids.push(id)); // blanks too
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
   * @returns the state of each utterance, for more of its frames
   */
  decode(utterances: readonly TransducerUtterance[], onStep: (utterance: number, step: TransducerStep) => void): Float32Array[] {
    if (utterances.length === 0) return [];
    const batch = this.batchFor(utterances);
    this.fill(batch, utterances);
    for (let running = true; running;) {
      this.run(batch);
      using downloaded = batch.steps.toTensor();
      const steps = downloaded.toArray();
      const last = new Array<number>(utterances.length).fill(-1);
      for (let row = 0; row < stepsPerBlock * utterances.length; row++) {
        const [id, duration, logProbability] = steps.subarray(stateColumns * row, stateColumns * row + 3) as unknown as [
          number,
          number,
          number,
        ];
        last[row % utterances.length] = id;
        if (id >= 0) onStep(row % utterances.length, { id, duration, logProbability });
      }
      running = last.some((id) => id >= 0);
    }
    tidy(() => void this.predict(batch, stepsPerBlock)); // the last token of an utterance that ended with the block
    return this.states(batch);
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

  /** The memory of the utterances before, where it fits. */
  private batchFor(utterances: readonly TransducerUtterance[]): Batch {
    const frames = utterances.reduce((sum, utterance) => sum + utterance.frames.length, 0) / this.hiddenSize;
    if (this.batch?.utterances === utterances.length && this.batch.room >= frames) return this.batch;
    this.release();
    const room = Math.max(minimumRoom, 2 ** Math.ceil(Math.log2(frames)));
    const zeros = (rows: number, columns: number, type: "float32" | "float16"): DeviceTensor =>
      keep(DeviceTensor.zeros([rows, columns], type));
    const count = utterances.length;
    return (this.batch = {
      utterances: count,
      room,
      frames: zeros(room, this.hiddenSize, "float32"),
      standing: zeros(count, stateColumns, "float32"),
      steps: zeros(stepsPerBlock * count, stateColumns, "float32"),
      hidden: this.layers.map(() => [zeros(count, this.hiddenSize, "float16"), zeros(count, this.hiddenSize, "float16")] as const),
      cells: this.layers.map(() => zeros(count, this.hiddenSize, "float32")),
      recording: undefined,
    });
  }

  private release(): void {
    const { batch } = this;
    this.batch = undefined;
    batch?.recording?.dispose();
    for (const tensor of batch ? [batch.frames, batch.standing, batch.steps, ...batch.hidden.flat(), ...batch.cells] : []) tensor.dispose();
  }

  private fill(batch: Batch, utterances: readonly TransducerUtterance[]): void {
    const size = this.hiddenSize;
    const standing: number[] = [];
    let frame = 0;
    const frames = new Float32Array(utterances.reduce((sum, utterance) => sum + utterance.frames.length, 0));
    for (const utterance of utterances) {
      frames.set(utterance.frames, frame * size);
      const end = frame + utterance.frames.length / size;
      standing.push(frame, end, utterance.symbolsAtFrame, utterance.state ? -1 : this.rules.blankId);
      frame = end;
    }
    tidy(() => {
      const upload = (values: Float32Array | number[], columns: number, to: DeviceTensor): void =>
        DeviceTensor.from(Tensor.from(values, [values.length / columns, columns]), to.type as "float32" | "float16").copyTo(to);
      upload(frames, size, batch.frames);
      upload(standing, stateColumns, batch.standing);
      const slot = (index: number): Float32Array => {
        const values = new Float32Array(utterances.length * size);
        utterances.forEach(({ state }, row) => state && values.set(state.subarray(index * size, (index + 1) * size), row * size));
        return values;
      };
      this.layers.forEach((_, layer) => {
        upload(slot(2 * layer), size, batch.hidden[layer]?.[0] as DeviceTensor);
        upload(slot(2 * layer + 1), size, batch.cells[layer] as DeviceTensor);
      });
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

  /** (utterances, joint), with the token that each has just said. A block has an even number of steps: the next begins where it began. */
  private predict(batch: Batch, step: number): DeviceTensor {
    let x: DeviceTensor | undefined;
    this.layers.forEach((layer, index) => {
      const [even, odd] = batch.hidden[index] as readonly [DeviceTensor, DeviceTensor];
      const [before, after] = step % 2 === 0 ? [even, odd] : [odd, even];
      layer.step(x ?? { table: this.table }, { state: batch.standing, before, after, cell: batch.cells[index] as DeviceTensor });
      x = after;
    });
    return multiply(x as unknown as DeviceTensor, this.projector);
  }

  /** After the step that {@link TransducerDecoder.decode} takes last. */
  private states({ utterances, hidden, cells }: Batch): Float32Array[] {
    const size = this.hiddenSize;
    const slots = hidden.flatMap(([, odd], layer) => [odd.toArray(), (cells[layer] as DeviceTensor).toArray()]);
    return Array.from({ length: utterances }, (_, row) => {
      const state = new Float32Array(slots.length * size);
      slots.forEach((values, slot) => state.set(values.subarray(row * size, (row + 1) * size), slot * size));
      return state;
    });
  }
}

const multiply = (x: DeviceTensor, { weight, bias }: PlacedLayer): DeviceTensor => deviceLinear(x, weight, { bias, batchInvariant: true });

function placed({ weight, bias }: TransducerLayer): PlacedLayer {
  return tidy(() => {
    const onGpu = DeviceWeight.from(packWeight(weight, "float32"), { arithmetic: "float16" });
    return { weight: onGpu, bias: bias && keep(onGpu.arrangeBias(bias)) };
  });
}
