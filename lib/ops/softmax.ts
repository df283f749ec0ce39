/** Softmax and its logarithm over the last axis. */
import { DeviceTensor } from "../device/device_tensor.js";
import { deviceLogSoftmax } from "../device/encoder_operations.js";
import { addon } from "../native/addon.js";
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import { recordStep } from "./tape.js";

interface SoftmaxBindings {
  softmax(x: TensorHandle): TensorHandle;
  softmaxBackward(y: TensorHandle, gradient: TensorHandle): TensorHandle;
  logSoftmax(x: TensorHandle): TensorHandle;
  logSoftmaxBackward(y: TensorHandle, gradient: TensorHandle): TensorHandle;
}

const native = addon as SoftmaxBindings;

/**
 * `exp(x) / sum(exp(x))` over the last axis, computed from the maximum so that nothing overflows.
 * @throws UsmLiteError INVALID_ARGUMENT unless `x` is float32
 *
 * @example
 * softmax(Tensor.from([1, 1, 1, 1])).toArray(); // 0.25, 0.25, 0.25, 0.25
 */
export function softmax(x: Tensor): Tensor {
  const y = new Tensor(native.softmax(x.handle));
  return recordStep(y, [x], (gradient, tape) => {
    tape.accumulate(x, new Tensor(native.softmaxBackward(y.handle, gradient.handle)));
  });
}

/**
 * `x - log(sum(exp(x)))` over the last axis, for example (frames, vocabulary).
 * @throws UsmLiteError INVALID_ARGUMENT unless `x` is float32
 *
 * @example
 * const logProbabilities = logSoftmax(logits); // (frames, vocabulary)
 */
export function logSoftmax(x: Tensor): Tensor {
  if (x instanceof DeviceTensor) return deviceLogSoftmax(x);
  const y = new Tensor(native.logSoftmax(x.handle));
  return recordStep(y, [x], (gradient, tape) => {
    tape.accumulate(x, new Tensor(native.logSoftmaxBackward(y.handle, gradient.handle)));
  });
}
