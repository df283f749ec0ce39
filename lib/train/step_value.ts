/** A number that is found in the middle of a step and wanted when that is over: until then nobody waits for the GPU. */
import { keep } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";

export class StepValue {
  private last = 0;
  private held: Tensor | undefined;

  /** @param value one element; it may go afterwards */
  set(value: Tensor): void {
    this.held?.dispose();
    this.held = keep(value.clone());
  }

  /** The last value that was set, 0 before the first; waits for it. */
  read(): number {
    if (this.held) this.last = this.held.toArray()[0] as number;
    this.dispose();
    return this.last;
  }

  dispose(): void {
    this.held?.dispose();
    this.held = undefined;
  }
}
