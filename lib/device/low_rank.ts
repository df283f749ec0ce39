/** Low-rank additions to linear layers on the GPU: adapters of many speakers in one batch. */
import type { Activation } from "../ops/linear.js";
import type { SequenceOffsets } from "../tensor/sequence_offsets.js";
import type { TensorHandle } from "../tensor/tensor.js";
import type { DeviceStream, StreamHandle } from "./device_stream.js";
import type { DeviceTensor, DeviceTensorHandle } from "./device_tensor.js";
import { gpuAddon } from "./gpu.js";

interface LowRankBindings {
  deviceLowRankAdd(
    y: DeviceTensorHandle,
    x: DeviceTensorHandle,
    offsets: TensorHandle,
    down: readonly DeviceTensorHandle[],
    up: readonly DeviceTensorHandle[],
    which: readonly number[],
    scale: number,
    activation: Activation,
    stream?: StreamHandle,
  ): void;
}

/** {@link LowRankFactors} on the GPU: float32 (rank, in) and (rank, out). */
export interface DeviceLowRankFactors {
  readonly down: DeviceTensor;
  readonly up: DeviceTensor;
}

/**
 * `y = activation(y + scale * (x·downᵀ)·up)` in place, each run of rows with factors of its own (or none), as {@link addLowRank} does on
 * the CPU: sums in float32, rounded once. What a row becomes depends on no other row.
 *
 * @param y (rows, out), bfloat16 or float16
 * @param x (rows, in) of the same type
 * @param runs where each run of rows begins and ends
 * @param factors of each run, of ranks up to 256; undefined: nothing is added to its rows
 * @throws UsmLiteError INVALID_ARGUMENT when shapes or types do not fit
 *
 * @example
 * const y = deviceLinear(x, weight);
 * deviceAddLowRank(y, x, new SequenceOffsets([120, 75]), [ann, undefined]); // the first 120 rows are Ann's
 */
export function deviceAddLowRank(
  y: DeviceTensor,
  x: DeviceTensor,
  runs: SequenceOffsets,
  factors: readonly (DeviceLowRankFactors | undefined)[],
  { scale = 1, activation = "none", stream }: { scale?: number; activation?: Activation; stream?: DeviceStream | undefined } = {},
): void {
  const distinct = [...new Set(factors)].filter((one) => one !== undefined);
  gpuAddon<LowRankBindings>().deviceLowRankAdd(
    y.handle,
    x.handle,
    runs.tensor.handle,
    distinct.map(({ down }) => down.handle),
    distinct.map(({ up }) => up.handle),
    factors.map((one) => (one === undefined ? -1 : distinct.indexOf(one))),
    scale,
    activation,
    stream?.handle,
  );
}
