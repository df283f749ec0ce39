/** Activations of the families, and a linear layer with one after it. */
import { DeviceTensor } from "../device/device_tensor.js";
import { silu } from "../ops/activation.js";
import { gelu, geluInPlace, geluOf } from "../ops/gelu.js";
import { relu } from "../ops/relu.js";
import type { Tensor } from "../tensor/tensor.js";
import type { ForwardContext } from "./forward_context.js";
import type { Linear } from "./linear.js";

/** `gelu` is the exact one. */
export type ActivationName = "relu" | "silu" | "gelu";

const activations: Readonly<Record<ActivationName, (x: Tensor) => Tensor>> = { relu, silu: (x) => silu(x), gelu };

/** `activation(x)` of any frames. @param x (frames, columns) */
export const activated = (x: Tensor, activation: ActivationName): Tensor => activations[activation](x);

/** {@link activated} of a tensor that nothing else uses, whose memory it takes over or gives back. Not recorded on a tape. */
export function activatedInPlace(x: Tensor, activation: ActivationName): Tensor {
  if (activation !== "gelu") {
    const y = activated(x, activation);
    x.dispose();
    return y;
  }
  geluInPlace(x);
  return x;
}

/** `activation(layer(x))` */
export function activatedLinear(layer: Linear, x: Tensor, activation: ActivationName, context: ForwardContext): Tensor {
  if (activation !== "gelu" || x instanceof DeviceTensor) return layer.forward(x, context, { activation });
  return geluOf(layer.forward(x, context));
}
