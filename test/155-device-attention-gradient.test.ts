import { assertClose } from "./gpu.js";
import test from "ava";
import { attention, deviceRotateHeads, DeviceSequences, DeviceTensor, SequenceOffsets, Tape, Tensor, UsmLiteError } from "../lib/operations.js";
import {
  deviceAttentionBackward,
  deviceRelativeAttentionBackward,
  deviceTrainingAttention,
  deviceTrainingRelativeAttention,
} from "../lib/device/training_attention.js";
import { cachedAttention } from "../lib/ops/cached_attention.js";
import { relativeAttention } from "../lib/ops/relative_attention.js";
import { gradientsOnCpu } from "./device_gradients.js";
import { randomTensor, randomValues } from "./gradient.js";
import { assertRelativeGradients } from "./relative_attention_gradients.js";

/** How far results are rounded, to bfloat16, of sums of rounded probabilities. */
const tolerance = 2 ** -6;

test("attention and its gradients", (t) => {
  for (const { lengths, heads, headDim, dropout } of [
    { lengths: [7, 0, 67, 1], heads: 2, headDim: 48, dropout: undefined },
    { lengths: [37], heads: 1, headDim: 128, dropout: { probability: 0.2, seed: 3 } },
    { lengths: [5, 66], heads: 2, headDim: 64, dropout: { probability: 0.3, seed: 2 ** 40 } },
    { lengths: [1], heads: 1, headDim: 8, dropout: undefined },
  ] as const) {
    const offsets = new SequenceOffsets(lengths);
    using sequences = new DeviceSequences(offsets);
    const shape = [offsets.frames, heads * headDim];
    const what = `[${lengths.join(", ")}], ${heads} heads of ${headDim}`;
    const [q, k, v, gradient] = [1, 2, 3, 4].map((seed) =>
      DeviceTensor.from(
        Tensor.from(
          randomValues(offsets.frames * heads * headDim, seed).map((x) => 1.5 * x),
          shape,
        ),
      ),
    ) as [DeviceTensor, DeviceTensor, DeviceTensor, DeviceTensor];
    let out: Float32Array | undefined;
    const expected = gradientsOnCpu([q, k, v], gradient, ([a, b, c]) => {
      const result = attention(a as Tensor, b as Tensor, c as Tensor, offsets, { heads, dropout });
      out = result.toArray();
      return result;
    });
    const forward = deviceTrainingAttention(q, k, v, sequences, { heads, dropout });
    assertClose(t, forward.out.toArray(), out as Float32Array, tolerance, what);
    const actual = deviceAttentionBackward(q, k, v, forward.out, forward.logSum, gradient, sequences, { heads, dropout });
    for (const [i, name] of (["query", "key", "value"] as const).entries()) {
      // With a single frame its probability is 1 and nothing reaches query and key but rounding.
      if (offsets.frames > 1 || name === "value")
        assertClose(t, actual[name].toArray(), expected[i] as Float32Array, tolerance, `${name}, ${what}`);
    }
  }
});

test("attention to other keys and to earlier tokens goes back through the tape, to the same bits", (t) => {
  for (const { queries, keys, causal, heads, headDim } of [
    { queries: [3, 0, 70, 5], keys: [3, 2, 70, 9], causal: true, heads: 2, headDim: 16 },
    { queries: [2, 0, 67], keys: [70, 5, 1], causal: false, heads: 1, headDim: 72 },
    { queries: [1, 66], keys: [134, 129], causal: true, heads: 1, headDim: 64 },
  ] as const) {
    const [offsets, places] = [new SequenceOffsets(queries), new SequenceOffsets(keys)];
    const inputs = [offsets, places, places].map(({ frames }, seed) =>
      DeviceTensor.from(randomTensor([frames, heads * headDim], seed + 1)),
    );
    const gradient = DeviceTensor.from(randomTensor([offsets.frames, heads * headDim], 4));
    const attend = ([query, k, v]: Tensor[]): Tensor =>
      cachedAttention(query as Tensor, offsets, { keys: k as Tensor, values: v as Tensor, offsets: places }, { heads, causal });
    const expected = gradientsOnCpu(inputs, gradient, attend);
    const what = `[${queries.join(", ")}] over [${keys.join(", ")}]`;
    for (const input of inputs) input.requiresGrad = true;
    const found = [1, 2].map(() => {
      using tape = new Tape();
      const out = tape.record(() => attend(inputs));
      assertClose(t, out.toArray(), attend(inputs.map((input) => input.toTensor())).toArray(), tolerance, what);
      tape.backward(out, gradient.clone());
      return inputs.map((input) => (tape.gradientOf(input) as Tensor).toArray());
    });
    t.deepEqual(found[1], found[0]);
    expected.forEach((values, i) => assertClose(t, found[0]?.[i] as Float32Array, values, tolerance, `input ${i}, ${what}`));
  }
});

test("attention with relative positions and its gradients", (t) => {
  for (const each of [
    { lengths: [7, 0, 67, 1], heads: 2, headDim: 48 },
    { lengths: [37], heads: 1, headDim: 128 },
    { lengths: [65, 5, 98], heads: 1, headDim: 64 },
    { lengths: [1], heads: 1, headDim: 8 },
  ] as const) {
    assertRelativeGradients(t, each);
  }
});

test("relative attention goes back through the tape", (t) => {
  const offsets = new SequenceOffsets([6, 3]);
  const [heads, headDim, longest] = [2, 8, 6];
  const [q, k, v, keys] = [
    [9, 1],
    [9, 2],
    [9, 3],
    [2 * longest - 1, 4],
  ].map(([rows, seed]) => DeviceTensor.from(randomTensor([rows as number, 16], seed as number))) as [
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
    DeviceTensor,
  ];
  const biases = [5, 6].map((seed) => DeviceTensor.from(randomTensor([heads, headDim], seed), "float32"));
  const inputs = [q, k, v, keys, ...biases];
  const gradient = DeviceTensor.from(randomTensor([9, 16], 7));
  const run = ([a, b, c, p, contentBias, positionBias]: Tensor[]): Tensor =>
    relativeAttention(a as Tensor, b as Tensor, c as Tensor, { keys: p as Tensor, origin: longest - 1 }, offsets, {
      heads,
      contentBias: contentBias as Tensor,
      positionBias: positionBias as Tensor,
    });
  const expected = gradientsOnCpu(inputs, gradient, run);
  for (const input of inputs) input.requiresGrad = true;
  using tape = new Tape();
  tape.backward(
    tape.record(() => run(inputs)),
    gradient.clone(),
  );
  for (const [i, input] of inputs.entries()) {
    const found = tape.gradientOf(input) as Tensor;
    t.deepEqual(found.shape, input.shape);
    assertClose(t, found.toArray(), expected[i] as Float32Array, 2 ** -6, `input ${i}`);
  }
});

test("a rotation can be turned back", (t) => {
  const offsets = new SequenceOffsets([5, 9]);
  using sequences = new DeviceSequences(offsets);
  const x = DeviceTensor.from(randomTensor([14, 32], 1), "float16");
  const before = x.toArray();
  deviceRotateHeads(x, sequences, { heads: 2, theta: 10000 });
  t.notDeepEqual(x.toArray(), before);
  deviceRotateHeads(x, sequences, { heads: 2, theta: 10000, inverse: true });
  assertClose(t, x.toArray(), before, 2 ** -9, "there and back");
});

test("misuse is a coded error", (t) => {
  const x = DeviceTensor.zeros([4, 272]);
  using sequences = new DeviceSequences(new SequenceOffsets([4]));
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  const narrow = DeviceTensor.zeros([4, 272], "float16");
  t.throws(() => deviceTrainingAttention(narrow, narrow, narrow, sequences, { heads: 34 }), {
    ...invalid,
    message: /query is float16; it must be bfloat16 in training/,
  });
  t.throws(() => deviceTrainingAttention(x, x, x, sequences, { heads: 2 }), { code: "UNSUPPORTED_SPEC", message: /heads have 136 values/ });
  t.throws(() => deviceTrainingAttention(x, x, x, sequences, { heads: 3 }), { ...invalid, message: /3 heads of equal size/ });
  t.throws(() => deviceTrainingAttention(x, DeviceTensor.zeros([3, 272]), x, sequences, { heads: 34 }), {
    ...invalid,
    message: /key must have shape/,
  });
  const elsewhere = (lengths: readonly number[], causal = false): unknown =>
    deviceTrainingAttention(x, DeviceTensor.zeros([3, 272]), DeviceTensor.zeros([3, 272]), sequences, {
      heads: 34,
      keys: new DeviceSequences(new SequenceOffsets(lengths)),
      causal,
    });
  t.notThrows(() => elsewhere([3]));
  t.throws(() => elsewhere([3], true), { ...invalid, message: /sequence 0 has 4 queries but only 3 keys/ });
  t.throws(() => elsewhere([2, 1]), { ...invalid, message: /queries of 1 sequences but keys of 2/ });
  t.throws(() => elsewhere([5]), { ...invalid, message: /key must have shape \(5, 272\)/ });
  const logSum = DeviceTensor.zeros([2, 4], "float32");
  t.throws(() => deviceAttentionBackward(x, x, x, x, logSum, x, sequences, { heads: 34 }), {
    ...invalid,
    message: /logSum must have shape \(34, 4\)/,
  });
  const relative = {
    positions: DeviceTensor.zeros([6, 272]),
    contentBias: DeviceTensor.zeros([272]),
    positionBias: DeviceTensor.zeros([272]),
  };
  t.throws(() => deviceTrainingRelativeAttention(x, x, x, sequences, { heads: 34, relative }), {
    ...invalid,
    message: /positions must have rows for distances from 3 to -3, but its rows are for 3 to -2/,
  });
  const sums = DeviceTensor.zeros([34, 4], "float32");
  const other = { ...relative, positions: DeviceTensor.zeros([7, 272]), contentBias: DeviceTensor.zeros([272], "float32") };
  t.throws(() => deviceRelativeAttentionBackward(x, x, x, x, sums, x, sequences, { heads: 34, relative: other }), {
    ...invalid,
    message: /contentBias is float32/,
  });
});
