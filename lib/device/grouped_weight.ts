/** The weight of a convolution in groups of channels on the GPU: one of each group. */
import { packWeight } from "../quant/packed_weight.js";
import { keep, tidy } from "../tensor/scope.js";
import type { Tensor } from "../tensor/tensor.js";
import type { DeviceTensor } from "./device_tensor.js";
import { DeviceWeight } from "./device_weight.js";

export class GroupedWeight implements Disposable {
  private constructor(
    /** Of each group, (out / groups, kernel * in / groups). */
    readonly weights: readonly DeviceWeight[],
    /** In the order of its weight. */
    readonly biases: readonly DeviceTensor[],
  ) {}

  /**
   * Rounds to bfloat16. Scopes do not track it.
   * @param weight (out, kernel, in / groups)
   * @param bias (out)
   * @throws UsmLiteError NO_GPU, DRIVER_TOO_OLD, OUT_OF_MEMORY
   */
  static place(weight: Tensor, bias: Tensor, groups: number): GroupedWeight {
    return tidy(() => {
      const [out, kernel, inputs] = weight.shape as [number, number, number];
      const size = out / groups;
      const matrix = weight.reshape([out, kernel * inputs]);
      const parts = Array.from({ length: groups }, (_, group) => {
        const [begin, end] = [group * size, (group + 1) * size];
        const placed = DeviceWeight.from(packWeight(matrix.rows(begin, end), "float32"));
        return { weight: placed, bias: keep(placed.arrangeBias(bias.rows(begin, end))) };
      });
      return new GroupedWeight(
        parts.map((part) => part.weight),
        parts.map((part) => part.bias),
      );
    });
  }

  /** Safe to call twice. */
  dispose(): void {
    for (const part of [...this.weights, ...this.biases]) part.dispose();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
