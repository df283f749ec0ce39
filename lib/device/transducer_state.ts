/** What the prediction network of a transducer knows of one utterance, kept on the GPU from one piece of its frames to the next. */
import { keep, tidy } from "../tensor/scope.js";
import { Tensor } from "../tensor/tensor.js";
import { DeviceTensor } from "./device_tensor.js";

/** Of a layer of the long short-term memory, a row for each utterance. */
export interface LayerStates {
  /** (utterances, hidden) float16 */
  readonly hidden: DeviceTensor;
  /** (utterances, hidden) float32 */
  readonly cell: DeviceTensor;
}

/**
 * Belongs to whoever decodes the utterance: no scope ends it ({@link tidy}), `dispose` gives it back. Utterances that were decoded
 * together share memory, which goes with the last of them. It does not depend on the decoder that made it.
 */
export class TransducerState implements Disposable {
  private constructor(private readonly layers: readonly LayerStates[]) {}

  /** A copy of what each of `utterances` utterances of a batch knows. */
  static ofBatch(batch: readonly LayerStates[], utterances: number): TransducerState[] {
    return tidy(() => {
      const copies = batch.map(({ hidden, cell }) => ({ hidden: hidden.clone(), cell: cell.clone() }));
      return Array.from({ length: utterances }, (_, row) => {
        const rowOf = (states: DeviceTensor): DeviceTensor => keep(states.rows(row, row + 1));
        return new TransducerState(copies.map(({ hidden, cell }) => ({ hidden: rowOf(hidden), cell: rowOf(cell) })));
      });
    });
  }

  /** Writes it into a row of a batch. */
  copyTo(batch: readonly LayerStates[], row: number): void {
    tidy(() =>
      this.layers.forEach(({ hidden, cell }, layer) => {
        const to = batch[layer] as LayerStates;
        hidden.copyTo(to.hidden.rows(row, row + 1));
        cell.copyTo(to.cell.rows(row, row + 1));
      }),
    );
  }

  /** Hidden and cell state of each layer, one after the other; waits. */
  toArray(): Float32Array {
    const parts = this.layers.flatMap(({ hidden, cell }) => [hidden.toArray(), cell.toArray()]);
    const size = parts[0]?.length ?? 0;
    const values = new Float32Array(parts.length * size);
    parts.forEach((part, index) => values.set(part, index * size));
    return values;
  }

  get released(): boolean {
    return this.layers.some(({ hidden }) => hidden.released);
  }

  /** Gives the memory back. Safe to call twice. */
  dispose(): void {
    for (const { hidden, cell } of this.layers) {
      hidden.dispose();
      cell.dispose();
    }
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}

/** Writes a state of floats, as {@link TransducerState.toArray} gives them, into a row of a batch. */
export function uploadState(state: Float32Array, batch: readonly LayerStates[], row: number): void {
  tidy(() =>
    batch
      .flatMap(({ hidden, cell }) => [hidden, cell])
      .forEach((to, slot) => {
        const size = to.dim(1);
        const values = Tensor.from(state.subarray(slot * size, (slot + 1) * size), [1, size]);
        DeviceTensor.from(values, to.type as "float16" | "float32").copyTo(to.rows(row, row + 1));
      }),
  );
}
