/** A linear layer and the activation after it, whichever that is. */
import { DeviceTensor } from "../device/device_tensor.js";
import { linearOnGpu } from "../device/inference.js";
import { geluOf } from "../ops/gelu.js";
import type { Tensor } from "../tensor/tensor.js";
import { adaptedLinear } from "./adapted_linear.js";
import { activeAdapters, adapts } from "./adapter_scope.js";
import type { ForwardContext } from "./forward_context.js";
import type { Linear } from "./linear.js";

/** Activations of the families; `gelu` is the exact one. */
export type ActivationName = "relu" | "silu" | "gelu";

/** `activation(layer(x))` */
export function activatedLinear(layer: Linear, x: Tensor, activation: ActivationName, context: ForwardContext): Tensor {
  if (activation !== "gelu") return layer.forward(x, context, { activation });
  if (!(x instanceof DeviceTensor)) return geluOf(layer.forward(x, context));
  const adapters = activeAdapters();
  if (adapters && adapts(adapters, layer.name)) return adaptedLinear(layer, x, { activation }, adapters);
  return linearOnGpu(x, layer.weight, { bias: layer.bias, activation }); // in the same pass
}
