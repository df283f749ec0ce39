/** How many weights new masks keep or prune unlike those before. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceCountMaskChanges, maskChangeCounts } from "../device/training_operations.js";
import { keep } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";

/** Counted where the masks are; the GPU is waited for when the share is read. */
export class MaskChanges {
  private changed = 0;
  private weights = 0;
  private layer = 0;
  /** float32 (layers, counts): parts of the number of each layer on the GPU. */
  private counts: DeviceTensor | undefined;

  /** @param layers as many as are added at most */
  constructor(private readonly layers: number) {}

  add(before: Tensor, after: Tensor): void {
    this.weights += after.size;
    if (after instanceof DeviceTensor) {
      this.counts ??= keep(DeviceTensor.zeros([this.layers, maskChangeCounts], "float32"));
      using row = this.counts.rows(this.layer, ++this.layer);
      return deviceCountMaskChanges(onGpu(before, "before"), after, row);
    }
    const was = before.toArray();
    after.toArray().forEach((kept, i) => (this.changed += Number(kept !== was[i])));
  }

  /** Of all weights. */
  share(): number {
    if (this.counts) this.changed += this.counts.toArray().reduce((sum, count) => sum + count, 0);
    this.dispose();
    return this.changed / Math.max(this.weights, 1);
  }

  dispose(): void {
    this.counts?.dispose();
    this.counts = undefined;
  }
}
