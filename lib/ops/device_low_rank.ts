/** Low-rank additions to linear layers on the GPU, while their factors learn there. */
import type { DeviceTensor } from "../device/device_tensor.js";
import { onGpu } from "../device/inference.js";
import { deviceAddLowRank } from "../device/low_rank.js";
import { vectorOnGpu } from "../device/placement.js";
import { deviceProduct } from "../device/training_operations.js";
import { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { Tensor } from "../tensor/tensor.js";
import { accumulateDeviceProduct, wants } from "./gradients.js";
import type { LowRankFactors } from "./low_rank.js";
import { recordStep } from "./tape.js";

/**
 * `y + scale * (x·downᵀ)·up` by the kernel of inference, which adds in float32 and rounds once; products of the backward pass are of factors
 * rounded to bfloat16, gradients of factors float32. The result takes over the memory of `y`.
 *
 * @param y bfloat16 (rows, out)
 * @param x bfloat16 (rows, in)
 * @param factors those that learn on the GPU; others are copied there once
 * @throws UsmLiteError INVALID_ARGUMENT for factors that learn on the CPU
 */
export function deviceLowRankSum(y: DeviceTensor, x: DeviceTensor, factors: LowRankFactors, scale: number): DeviceTensor {
  const [down, up] = [placed(factors.down), placed(factors.up)];
  const rows = y.dim(0);
  const sum = y.rows(0, rows);
  deviceAddLowRank(sum, x, new SequenceOffsets([rows]), [{ down, up }], { scale });
  recordStep(sum, [y, x, down, up], (upstream, tape) => {
    const gradient = onGpu(upstream, "gradient");
    const [narrowDown, narrowUp] = [down.cast("bfloat16"), up.cast("bfloat16")];
    const hiddenGradient = deviceProduct({ matrix: gradient }, { matrix: narrowUp, transposed: true }, scale); // (rows, rank)
    accumulateDeviceProduct(tape, "float32", down, { matrix: hiddenGradient, transposed: true }, { matrix: x });
    if (wants(up)) {
      const hidden = deviceProduct({ matrix: x }, { matrix: narrowDown, transposed: true });
      accumulateDeviceProduct(tape, "float32", up, { matrix: hidden, transposed: true }, { matrix: gradient }, scale);
    }
    accumulateDeviceProduct(tape, "bfloat16", x, { matrix: hiddenGradient }, { matrix: narrowDown });
    // Last: `y` takes over the memory of `gradient`, and what is added to it later goes there.
    tape.accumulate(y, gradient.rows(0, rows));
  });
  return sum;
}

const placed = (factor: Tensor): DeviceTensor => (wants(factor) ? onGpu(factor, "an adapter that learns") : vectorOnGpu(factor));
