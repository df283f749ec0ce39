/**
 * What training of sequence-to-sequence models does on the GPU besides what all models do: pure functions, as those of
 * gradient_operations.ts.
 */
import { Tensor, type TensorHandle } from "../tensor/tensor.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import { DeviceTensor, type DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface SequenceTrainingBindings {
  deviceGatherRows(x: DeviceTensorHandle, indices: TensorHandle, stream?: StreamHandle): DeviceTensorHandle;
  deviceAddRows(x: DeviceTensorHandle, indices: TensorHandle, rows: DeviceTensorHandle, stream?: StreamHandle): void;
  deviceCrossEntropy(
    logits: DeviceTensorHandle,
    labels: TensorHandle,
    smoothing: number,
    factor: number,
    wantsGradient: boolean,
    stream?: StreamHandle,
  ): [losses: DeviceTensorHandle, gradient?: DeviceTensorHandle];
}

const native = (): SequenceTrainingBindings => gpuAddon<SequenceTrainingBindings>();

/**
 * Rows `indices` of `x`, in that order.
 * @param x (rows, width), bfloat16, or float32 and then rounded
 * @param indices int32, on the CPU
 * @returns bfloat16 (indices, width)
 */
export function deviceGatherRows(x: DeviceTensor, indices: Tensor, stream?: DeviceStream): DeviceTensor {
  return new DeviceTensor(native().deviceGatherRows(x.handle, indices.handle, stream?.handle));
}

/**
 * Adds row i of `rows` to row `indices[i]` of `x`, one i after the other where several name the same row.
 * @param x float32 (rows, width)
 * @param indices int32, on the CPU
 * @param rows bfloat16 (indices, width)
 */
export function deviceAddRows(x: DeviceTensor, indices: Tensor, rows: DeviceTensor, stream?: DeviceStream): void {
  native().deviceAddRows(x.handle, indices.handle, rows.handle, stream?.handle);
}

export interface DeviceCrossEntropyOptions {
  /** Share of each label's probability that is spread over all columns alike. */
  readonly labelSmoothing: number;
  /** Of the gradient. */
  readonly factor: number;
  readonly wantsGradient: boolean;
  readonly stream?: DeviceStream | undefined;
}

/**
 * `-sum q ln softmax(logits)` of each row, in float32; q is 1 at the label, less what is smoothed away.
 * @param logits bfloat16 (rows, columns)
 * @param labels int32, on the CPU: a column for each row, or one below 0 for rows that do not count
 * @returns `losses` float32 (rows), NaN where a logit is not finite and 0 for rows that do not count; `gradient` like logits,
 *   `factor * (softmax(logits) - q)`, where it was wanted
 */
export function deviceCrossEntropy(
  logits: DeviceTensor,
  labels: Tensor,
  { labelSmoothing, factor, wantsGradient, stream }: DeviceCrossEntropyOptions,
): { losses: DeviceTensor; gradient: DeviceTensor | undefined } {
  const [losses, gradient] = native().deviceCrossEntropy(
    logits.handle,
    labels.handle,
    labelSmoothing,
    factor,
    wantsGradient,
    stream?.handle,
  );
  return { losses: new DeviceTensor(losses), gradient: gradient && new DeviceTensor(gradient) };
}
