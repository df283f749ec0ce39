/** Scores that are trained beside the weights, and say which of them are kept. */
import { copyBeside, storedForm } from "../device/device_parameter.js";
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceMultiply, deviceRaise } from "../device/gradient_operations.js";
import { onGpu } from "../device/inference.js";
import { recordStep } from "../ops/tape.js";
import { applyMask } from "../sparse/prune.js";
import { Tensor } from "../tensor/tensor.js";

/** |w|, beside the weight. */
export function firstScore(weight: Tensor): Tensor {
  const stored = storedForm(weight);
  return copyBeside(weight, Tensor.from(stored.toArray().map(Math.abs), stored.shape));
}

/** A score below zero counts as zero: masks compare magnitudes. */
export function positive(score: Tensor): Tensor {
  if (!(score instanceof DeviceTensor))
    return Tensor.from(
      score.toArray().map((x) => Math.max(x, 0)),
      score.shape,
    );
  const copy = score.clone();
  deviceRaise(copy, 0);
  return copy;
}

/** `weight * mask`; a score gets the gradient of its mask, as if the mask were the score. */
export function selectByScore(weight: Tensor, mask: Tensor, score: Tensor): Tensor {
  return recordStep(applyMask(weight, mask), [weight, score], (gradient, tape) => {
    tape.accumulate(weight, applyMask(gradient, mask));
    tape.accumulate(score, product(gradient, weight));
  });
}

function product(x: Tensor, y: Tensor): Tensor {
  if (x instanceof DeviceTensor) return deviceMultiply(x, onGpu(y, "y"));
  const factors = y.toArray();
  return Tensor.from(
    x.toArray().map((value, i) => value * (factors[i] as number)),
    x.shape,
  );
}
