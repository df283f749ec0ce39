/** A layer of the long short-term memory (Hochreiter, Schmidhuber 1997) of a transducer on the GPU, which takes a step in one launch. */
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";
import type { TransducerLayer } from "./transducer_decoder.js";

interface TransducerLstmBindings {
  deviceTransducerLstm(
    weights: DeviceTensorHandle,
    bias: DeviceTensorHandle,
    x: DeviceTensorHandle,
    looksUp: boolean,
    state: DeviceTensorHandle,
    before: DeviceTensorHandle,
    after: DeviceTensorHandle,
    cell: DeviceTensorHandle,
  ): void;
}

const native = (): TransducerLstmBindings => gpuAddon<TransducerLstmBindings>();

/** What utterances know, and what they know after a step. */
export interface LstmMemory {
  /** (utterances, 4) float32: where each stands, and the token that it has just said. */
  readonly state: DeviceTensor;
  /** (utterances, hidden) float16 */
  readonly before: DeviceTensor;
  /** Like `before`. */
  readonly after: DeviceTensor;
  /** (utterances, hidden) float32, changed in place. */
  readonly cell: DeviceTensor;
}

// As native/cuda/transducer_lstm.hpp has them.
const [gates, units, columnsOfFragment] = [4, 4, 16];
const rowsOfFragment = gates * units;
const lanes = 32;

export class DeviceLstm implements Disposable {
  private readonly weights: DeviceTensor;
  private readonly bias: DeviceTensor;

  /**
   * Brings the weights to the GPU, as float16 in the order that tensor cores take them in.
   * @param input (4 * hidden, hidden), as `recurrent`: gates i, f, g, o
   */
  constructor(input: TransducerLayer, recurrent: TransducerLayer) {
    const hidden = input.weight.dim(1);
    const parts = [input.weight.toArray(), recurrent.weight.toArray()] as const;
    const biases = [input, recurrent].map(({ bias }) => bias?.toArray());
    const [groups, steps] = [hidden / units, (2 * hidden) / columnsOfFragment];
    const size = rowsOfFragment * columnsOfFragment;
    /** Of the whole matrix, for row `row` of the fragments of unit group `group`. */
    const place = (group: number, row: number): number => Math.floor(row / units) * hidden + group * units + (row % units);
    const arranged = new Float32Array(groups * steps * size);
    for (let at = 0; at < arranged.length; at++) {
      const [fragment, within] = [Math.floor(at / size), at % size];
      const [lane, register, half] = [Math.floor(within / (size / lanes)), Math.floor(within / 2) % 4, within % 2];
      const [group, step] = [Math.floor(fragment / steps), fragment % steps];
      const row = place(group, Math.floor(lane / 4) + 8 * (register % 2));
      const column = columnsOfFragment * step + 4 * (lane % 4) + 2 * Math.floor(register / 2) + half;
      arranged[at] = (column < hidden ? parts[0][row * hidden + column] : parts[1][row * hidden + column - hidden]) as number;
    }
    const sums = Float32Array.from({ length: groups * rowsOfFragment }, (_, at) => {
      const row = place(Math.floor(at / rowsOfFragment), at % rowsOfFragment);
      return biases.reduce((sum, bias) => sum + (bias?.[row] ?? 0), 0);
    });
    const onGpu = (values: Float32Array, columns: number, type: "float16" | "float32"): DeviceTensor =>
      tidy(() => keep(DeviceTensor.from(Tensor.from(values, [values.length / columns, columns]), type)));
    this.weights = onGpu(arranged, size, "float16");
    this.bias = onGpu(sums, rowsOfFragment, "float32");
  }

  /**
   * Utterances that have just said a token know it afterwards; the others know what they knew.
   * @param x (utterances, hidden) float16, or a `table` (vocabulary, hidden) of what tokens are
   */
  step(x: DeviceTensor | { readonly table: DeviceTensor }, { state, before, after, cell }: LstmMemory): void {
    const looksUp = !(x instanceof DeviceTensor);
    const values = looksUp ? x.table : x;
    native().deviceTransducerLstm(
      this.weights.handle,
      this.bias.handle,
      values.handle,
      looksUp,
      state.handle,
      before.handle,
      after.handle,
      cell.handle,
    );
  }

  dispose(): void {
    this.weights.dispose();
    this.bias.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
