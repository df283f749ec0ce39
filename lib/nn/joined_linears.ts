/** Linear layers that see the same frames, as query, key and value layers do: one product in inference on the GPU, one for each elsewhere. */
import { DeviceTensor } from "../device/device_tensor.js";
import { DeviceWeight } from "../device/device_weight.js";
import { stackedLinearOnGpu } from "../device/inference.js";
import { stackedOnGpu } from "../device/placement.js";
import { activeTape } from "../ops/tape.js";
import { PackedMatrix } from "../quant/packed_matrix.js";
import { Tensor } from "../tensor/tensor.js";
import { addAdapters } from "./adapted_linear.js";
import { activeAdapters, adapts } from "./adapter_scope.js";
import type { ForwardContext } from "./forward_context.js";
import type { Linear } from "./linear.js";

export class JoinedLinears<const Layers extends readonly Linear[]> {
  constructor(private readonly layers: Layers) {
    // Packed weights move here, before other workers share them; float weights when they are first needed.
    if (layers.every(({ weight }) => weight instanceof DeviceWeight)) stackedOnGpu(layers.map(({ weight }) => weight));
  }

  /** @param x (frames, in); returns what each layer makes of it, (frames, out). On the GPU these may be columns of one matrix. */
  forward(x: Tensor, context: ForwardContext): { [Index in keyof Layers]: Tensor } {
    return (this.together(x, context) ?? this.layers.map((layer) => layer.forward(x, context))) as { [Index in keyof Layers]: Tensor };
  }

  /** The same, but undefined where that is not one product: elsewhere than on the GPU, of layers that are not of one kind, in training. */
  together(x: Tensor, context: ForwardContext): Tensor[] | undefined {
    if (!(x instanceof DeviceTensor) || activeTape() || context.transformWeight || context.packedWeight) return undefined;
    const weight = stackedOnGpu(this.layers.map((layer) => layer.weight));
    if (!weight) return undefined;
    const outputs = stackedLinearOnGpu(
      x,
      weight,
      this.layers.map(({ shape, bias }) => ({ rows: shape[0] as number, bias })),
    );
    const adapters = activeAdapters();
    this.layers.forEach(({ name }, index) => {
      context.observeInput?.(name, x);
      if (adapters && adapts(adapters, name)) addAdapters(name, outputs[index] as Tensor, x, adapters);
    });
    return outputs;
  }

  /**
   * Whether {@link JoinedLinears.forward} multiplied in whole numbers on the CPU: what it gave is then worth no more than attention in whole
   * numbers.
   */
  multipliedIntegers(context: ForwardContext): boolean {
    return this.layers.every(({ name, weight }) => {
      if (weight instanceof DeviceTensor) return false;
      const packed = weight instanceof Tensor ? context.packedWeight?.(name, weight) : weight; // a step packs a weight once
      return packed instanceof PackedMatrix && packed.holdsIntegers;
    });
  }
}
