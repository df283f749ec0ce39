/** Layer normalization, alone and fused with the residual sum before it. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceLayerNormBackward } from "../device/gradient_operations.js";
import { layerNormOnGpu, onGpu } from "../device/inference.js";
import { vectorOnGpu } from "../device/placement.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { accumulateAll, accumulateParts, wants } from "./gradients.js";
import { recordStep, recordStepOf } from "./tape.js";

interface LayerNormBindings {
  layerNorm(x: TensorHandle, weight: TensorHandle, bias: TensorHandle | undefined, epsilon: number): TensorHandle;
  addLayerNorm(
    x: TensorHandle,
    a: number,
    y: TensorHandle,
    b: number,
    weight: TensorHandle,
    bias: TensorHandle | undefined,
    epsilon: number,
  ): [sum: TensorHandle, normalized: TensorHandle];
  layerNormBackward(
    sum: TensorHandle,
    a: number,
    b: number,
    weight: TensorHandle,
    epsilon: number,
    gradientNormalized: TensorHandle | undefined,
    gradientSum: TensorHandle | undefined,
    wantsX: boolean,
    wantsY: boolean,
    wantsWeight: boolean,
    wantsBias: boolean,
  ): (TensorHandle | undefined)[];
}

const native = addon as LayerNormBindings;

/** What {@link layerNorm} is told. */
export interface LayerNormOptions {
  /** (hidden); absent means zero */
  bias?: Tensor | undefined;
  /** added to the variance */
  epsilon: number;
}

/**
 * `(x - mean) / sqrt(variance + epsilon) * weight + bias` over the hidden values of each frame, with the biased
 * variance (Ba, Kiros, Hinton 2016).
 * @param x (frames, hidden)
 * @param weight (hidden)
 * @returns (frames, hidden)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 *
 * @example
 * layerNorm(Tensor.from([1, 3], [1, 2]), Tensor.from([1, 1]), { epsilon: 1e-6 }).toArray(); // -1, 1
 */
export function layerNorm(x: Tensor, weight: Tensor, { bias, epsilon }: LayerNormOptions): Tensor {
  if (x instanceof DeviceTensor) {
    return recordStep(layerNormOnGpu(x, weight, bias, epsilon), [x, weight, bias], (gradient, tape) => {
      const sum = tape.gradientOf(x);
      const wanted = {
        epsilon,
        wantsX: wants(x),
        wantsWeight: wants(weight),
        wantsBias: wants(bias),
        sum: sum && onGpu(sum, "gradient"),
      };
      accumulateParts(tape, { x, weight, bias }, deviceLayerNormBackward(x, vectorOnGpu(weight), onGpu(gradient, "gradient"), wanted));
    });
  }
  const normalized = new Tensor(native.layerNorm(x.handle, weight.handle, bias?.handle, epsilon));
  return recordStep(normalized, [x, weight, bias], (gradient, tape) => {
    const gradients = native.layerNormBackward(
      x.handle,
      1,
      0,
      weight.handle,
      epsilon,
      gradient.handle,
      undefined,
      wants(x),
      false,
      wants(weight),
      wants(bias),
    );
    accumulateAll(tape, [x, undefined, weight, bias], gradients);
  });
}

/**
 * The residual connection and the normalization after it in one pass over memory: `sum = a * x + b * y` and
 * `normalized = layerNorm(sum)`. Both are differentiable; their backward pass is one too.
 * @param x (frames, hidden)
 * @param y (frames, hidden)
 * @param weight (hidden)
 * @throws UsmLiteError INVALID_ARGUMENT when shapes do not fit
 *
 * @example
 * const { sum, normalized } = addLayerNorm(x, 1, feedForward, 0.5, scale, { epsilon: 1e-6 });
 */
export function addLayerNorm(
  x: Tensor,
  a: number,
  y: Tensor,
  b: number,
  weight: Tensor,
  { bias, epsilon }: LayerNormOptions,
): { sum: Tensor; normalized: Tensor } {
  const handles = native.addLayerNorm(x.handle, a, y.handle, b, weight.handle, bias?.handle, epsilon);
  const [sum, normalized] = handles.map((handle) => new Tensor(handle)) as [Tensor, Tensor];
  recordStepOf([sum, normalized], [x, y, weight, bias], ([gradientSum, gradientNormalized], tape) => {
    const gradients = native.layerNormBackward(
      sum.handle,
      a,
      b,
      weight.handle,
      epsilon,
      gradientNormalized?.handle,
      gradientSum?.handle,
      wants(x),
      wants(y),
      wants(weight),
      wants(bias),
    );
    accumulateAll(tape, [x, y, weight, bias], gradients);
  });
  return { sum, normalized };
}
