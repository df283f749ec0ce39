/** Attention with relative positions and its gradients on the GPU beside those of the CPU. */
import type { ExecutionContext } from "ava";
import { assertClose } from "./gpu.js";
import { DeviceSequences, DeviceTensor, SequenceOffsets, type Tensor } from "../lib/operations.js";
import {
  deviceRelativeAttentionBackward,
  deviceTrainingRelativeAttention,
  type DeviceRelativeAttentionGradients,
} from "../lib/device/training_attention.js";
import { relativeAttention } from "../lib/ops/relative_attention.js";
import { gradientsOnCpu } from "./device_gradients.js";
import { randomTensor } from "./gradient.js";

export interface RelativeAttentionCase {
  readonly lengths: readonly number[];
  readonly heads: number;
  readonly headDim: number;
}

/** Of a result, relative to its largest value: the GPU rounds to bfloat16. */
const tolerance = 2 ** -6;

/** Of 37 frames the gradients are computed twice, and must be the same bits. */
export function assertRelativeGradients(t: ExecutionContext, { lengths, heads, headDim }: RelativeAttentionCase): void {
  const offsets = new SequenceOffsets(lengths);
  using sequences = new DeviceSequences(offsets);
  const width = heads * headDim;
  const what = `[${lengths.join(", ")}], ${heads} heads of ${headDim}`;
  const make = (shape: number[], seed: number): DeviceTensor => DeviceTensor.from(randomTensor(shape, seed));
  const [q, k, v, gradient] = [1, 2, 3, 4].map((seed) => make([offsets.frames, width], seed)) as [
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
  ];
  const relative = {
    positions: make([2 * sequences.longest - 1, width], 5),
    contentBias: make([width], 6),
    positionBias: make([width], 7),
  };
  const inputs = { query: q, key: k, value: v, ...relative };
  let out: Float32Array | undefined;
  const expected = gradientsOnCpu(Object.values(inputs), gradient, ([a, b, c, keys, contentBias, positionBias]) => {
    const result = relativeAttention(
      a as Tensor,
      b as Tensor,
      c as Tensor,
      { keys: keys as Tensor, origin: sequences.longest - 1 },
      offsets,
      {
        heads,
        contentBias: contentBias as Tensor,
        positionBias: positionBias as Tensor,
      },
    );
    out = result.toArray();
    return result;
  });
  const forward = deviceTrainingRelativeAttention(q, k, v, sequences, { heads, relative });
  assertClose(t, forward.out.toArray(), out as Float32Array, tolerance, what);
  const backward = (): DeviceRelativeAttentionGradients =>
    deviceRelativeAttentionBackward(q, k, v, forward.out, forward.logSum, gradient, sequences, { heads, relative });
  const actual = backward();
  for (const [i, name] of (Object.keys(inputs) as (keyof typeof inputs)[]).entries()) {
    // With a single frame its probability is 1 and nothing reaches the rest but rounding.
    if (offsets.frames > 1 || name === "value")
      assertClose(t, actual[name].toArray(), expected[i] as Float32Array, tolerance, `${name}, ${what}`);
  }
  if (offsets.frames === 37) t.deepEqual(backward().positions.toArray(), actual.positions.toArray());
}
