/** A linear layer and the activation after it, whichever that is. */
import { DeviceTensor } from "../device/device_tensor.js";
import { geluOf } from "../ops/gelu.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ForwardContext } from "./forward_context.js";
import type { Linear } from "./linear.js";

/** Activations of the families; `gelu` is the exact one. */
export type ActivationName = "relu" | "silu" | "gelu";

/** `activation(layer(x))` */
export function activatedLinear(layer: Linear, x: Tensor, activation: ActivationName, context: ForwardContext): Tensor {
  if (activation !== "gelu" || x instanceof DeviceTensor) return layer.forward(x, context, { activation });
  return geluOf(layer.forward(x, context));
}
