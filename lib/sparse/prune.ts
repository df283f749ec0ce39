/** Multiplying by masks, and what gradients pass to the weights that are pruned. */
import { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceApplyMask } from "../device/training_operations.js";
import { addon } from "../native/addon.js";
import { scaledSum } from "../ops/elementwise.js";
import { recordStep } from "../ops/tape.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";

interface PruneBindings {
  applyMask(x: TensorHandle, mask: TensorHandle, pruned: number): TensorHandle;
}

const native = addon as PruneBindings;

/**
 * `x` where the mask (uint8, on the GPU int8, same shape) is set, `pruned * x` elsewhere; not differentiable.
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * applyMask(Tensor.from([3, -1, 2, -4]), Tensor.from(Uint8Array.of(1, 0, 0, 1))).toArray(); // 3, 0, 0, -4
 */
export function applyMask(x: Tensor, mask: Tensor, pruned = 0): Tensor {
  if (x instanceof DeviceTensor) return deviceApplyMask(x, onGpu(mask, "mask"), pruned);
  return new Tensor(native.applyMask(x.handle, mask.handle, pruned));
}

/** What pruned weights and their gradients are, in {@link prune}. */
export interface PruneOptions {
  /** What is left of pruned weights: 0 (the default) to 1. */
  readonly remainder?: number;
  /** Pruned weights get the gradient that they would get if they were kept (the straight-through estimator). Default: `remainder` of it. */
  readonly straightThrough?: boolean;
  /** Pruned weights also get `decay` times themselves, which shrinks them (SR-STE, arXiv 2102.04010: 2e-4). Default 0. */
  readonly decay?: number;
}

/**
 * `weight` times `mask`, differentiable.
 * @param mask uint8, the weight's shape; the caller keeps it alive until the backward pass
 * @throws UsmLiteError INVALID_ARGUMENT for a mask of another shape
 *
 * @example
 * const effective = prune(weight, magnitudeMask(weight, 2, 4), { straightThrough: true, decay: 2e-4 }); // SR-STE
 */
export function prune(weight: Tensor, mask: Tensor, { remainder = 0, straightThrough = false, decay = 0 }: PruneOptions = {}): Tensor {
  return recordStep(applyMask(weight, mask, remainder), [weight], (gradient, tape) => {
    tape.accumulate(weight, applyMask(gradient, mask, straightThrough ? 1 : remainder));
    if (decay === 0) return;
    using kept = applyMask(weight, mask);
    tape.accumulate(weight, scaledSum(weight, decay, kept, -decay));
  });
}
