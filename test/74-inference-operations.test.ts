import test from "ava";
import { SequenceOffsets, Tensor } from "../lib/operations.js";
import { cachedAttention } from "../lib/ops/cached_attention.js";
import { gelu, geluInPlace } from "../lib/ops/gelu.js";
import { groupedConvolution } from "../lib/ops/grouped_convolution.js";
import { instanceNorm } from "../lib/ops/instance_norm.js";
import { lstmCell } from "../lib/ops/lstm_cell.js";
import { planeConvolution } from "../lib/ops/plane_convolution.js";
import { relativeAttention } from "../lib/ops/relative_attention.js";
import { rotateRows } from "../lib/ops/rotary_embedding.js";
import { gatherRows, padSequences } from "../lib/ops/row_copies.js";
import { randomTensor, randomValues } from "./gradient.js";
import { agreeOnAllInstructionSets } from "./instruction_sets.js";

const scaledTensor = (shape: readonly number[], seed: number, factor: number): Tensor =>
  Tensor.from(
    randomValues(
      shape.reduce((a, b) => a * b, 1),
      seed,
    ).map((value) => value * factor),
    shape,
  );

interface RelativeCase {
  lengths: number[];
  heads: number;
  keyValueHeads?: number;
  headDim: number;
  context?: [number, number];
}

const relativeCases: Record<string, RelativeCase> = {
  "one frame": { lengths: [1], heads: 1, headDim: 2 },
  "several sequences, one of them empty": { lengths: [7, 0, 33, 1, 60], heads: 4, headDim: 8 },
  "an odd head size": { lengths: [10, 29], heads: 3, headDim: 7 },
  "grouped queries": { lengths: [50, 12], heads: 6, keyValueHeads: 2, headDim: 12 },
  "more queries than share keys": { lengths: [700], heads: 1, headDim: 5 },
  "more keys than a block": { lengths: [1100], heads: 1, headDim: 4 },
  "a window": { lengths: [90, 3, 41], heads: 2, headDim: 10, context: [5, 2] },
  "a window of the frame itself": { lengths: [40], heads: 2, headDim: 4, context: [0, 0] },
  "a window longer than the sequence": { lengths: [20], heads: 1, headDim: 4, context: [50, 50] },
  "a window longer than a block": { lengths: [1500], heads: 1, headDim: 4, context: [600, 130] },
};

function relative({ lengths, heads, keyValueHeads = heads, headDim, context }: RelativeCase, factor = 1): Tensor {
  const offsets = new SequenceOffsets(lengths);
  const longest = Math.max(...lengths);
  const [left, right] = context ?? [longest - 1, longest - 1];
  const width = heads * headDim;
  const positions = { keys: scaledTensor([left + right + 1, width], 5, factor), origin: left };
  return relativeAttention(
    scaledTensor([offsets.frames, width], 1, factor),
    scaledTensor([offsets.frames, keyValueHeads * headDim], 2, factor),
    randomTensor([offsets.frames, keyValueHeads * headDim], 3),
    positions,
    offsets,
    { heads, keyValueHeads, contentBias: randomTensor([width], 6), positionBias: randomTensor([width], 7), context },
  );
}

for (const [name, which] of Object.entries(relativeCases)) {
  test(`relativeAttention agrees on every instruction set: ${name}`, (t) => {
    for (const factor of [1, 5]) agreeOnAllInstructionSets(t, `inputs x ${factor}`, () => [relative(which, factor)], 5e-5);
  });
}

test("relativeAttention follows its formula", (t) => {
  // Scores (q + u) k + (q + v) p with q = k = 1, u = 1, v = 0, and p(0) = 0, p(1) = 3, p(-1) = 5: frame 1 sees frame 0 at distance 1.
  const one = Tensor.from([1, 1], [2, 1]);
  const positions = { keys: Tensor.from([3, 0, 5], [3, 1]), origin: 1 };
  const out = relativeAttention(one, one, Tensor.from([1, 0], [2, 1]), positions, new SequenceOffsets([2]), {
    heads: 1,
    contentBias: Tensor.from([1]),
    positionBias: Tensor.from([0]),
  }).toArray();
  const expected = [1 / (1 + Math.exp(5)), 1 / (1 + Math.exp(-3))];
  expected.forEach((value, i) => t.true(Math.abs((out[i] as number) - value) < 1e-6, `${out[i]} is not ${value}`));
});

test("relativeAttention gives a sequence the same bits whatever else is in the batch", (t) => {
  for (const context of [undefined, [9, 4]] as const) {
    const width = 8;
    const all = [5, 90, 610];
    const offsets = new SequenceOffsets(all);
    const x = randomTensor([offsets.frames, width], 1);
    const table = randomTensor([2 * 610 - 1, width], 2);
    const options = { heads: 2, contentBias: randomTensor([width], 3), positionBias: randomTensor([width], 4), context };
    const together = relativeAttention(x, x, x, { keys: table, origin: 609 }, offsets, options).rows(5, 95).toArray();
    const part = x.rows(5, 95);
    const alone = relativeAttention(part, part, part, { keys: table.rows(520, 699), origin: 89 }, new SequenceOffsets([90]), options);
    t.deepEqual(alone.toArray(), together);
  }
});

test("relativeAttention refuses operands that do not fit", (t) => {
  const x = Tensor.zeros([4, 6]);
  const offsets = new SequenceOffsets([4]);
  const bias = Tensor.zeros([6]);
  const positions = { keys: Tensor.zeros([7, 6]), origin: 3 };
  const code = "INVALID_ARGUMENT";
  const options = { heads: 2, contentBias: bias, positionBias: bias };
  t.throws(() => relativeAttention(x, x, x, positions, offsets, { ...options, heads: 4 }), { code, message: /4 heads of equal size/ });
  t.throws(() => relativeAttention(x, x, x, { ...positions, origin: 2 }, offsets, options), { code, message: /distances from 3 to -3/ });
  t.throws(() => relativeAttention(x, x, x, { keys: Tensor.zeros([6, 6]), origin: 3 }, offsets, options), {
    code,
    message: /are for 3 to -2/,
  });
  t.throws(() => relativeAttention(x, x, x, positions, new SequenceOffsets([5]), options), { code, message: /offsets must begin/ });
  t.throws(() => relativeAttention(x, x, x, positions, offsets, { ...options, contentBias: Tensor.zeros([5]) }), {
    code,
    message: /contentBias/,
  });
});

test("cachedAttention agrees on every instruction set, over rows in order and over chosen ones", (t) => {
  for (const { queries, keys, headDim, causal } of [
    { queries: [1], keys: [1], headDim: 1, causal: true },
    { queries: [3, 1, 0], keys: [3, 70, 4], headDim: 9, causal: true },
    { queries: [2, 5], keys: [130, 1], headDim: 32, causal: false },
  ]) {
    const heads = 3;
    const offsets = new SequenceOffsets(queries);
    const keyOffsets = new SequenceOffsets(keys);
    agreeOnAllInstructionSets(t, `${queries.join(", ")} over ${keys.join(", ")}`, () => {
      const query = scaledTensor([offsets.frames, heads * headDim], 1, 2);
      const [k, v] = [2, 3].map((seed) => randomTensor([keyOffsets.frames, heads * headDim], seed)) as [Tensor, Tensor];
      const rows = Tensor.from(Int32Array.from({ length: keyOffsets.frames }, (_, i) => (i * 7) % keyOffsets.frames));
      return [undefined, rows].map((chosen) =>
        cachedAttention(query, offsets, { keys: k, values: v, offsets: keyOffsets, rows: chosen }, { heads, causal }),
      );
    });
  }
});

test("cachedAttention sees one token more with each query, and refuses operands that do not fit", (t) => {
  const keys = Tensor.from([0, 0, 0], [3, 1]);
  const values = Tensor.from([3, 6, 9], [3, 1]);
  const offsets = new SequenceOffsets([2]);
  const cache = { keys, values, offsets: new SequenceOffsets([3]) };
  const query = Tensor.from([1, 1], [2, 1]);
  t.deepEqual([...cachedAttention(query, offsets, cache, { heads: 1, causal: true }).toArray()], [4.5, 6]);
  t.deepEqual([...cachedAttention(query, offsets, cache, { heads: 1 }).toArray()], [6, 6]);
  const code = "INVALID_ARGUMENT";
  const few = { ...cache, rows: Tensor.from(Int32Array.of(0)), offsets: new SequenceOffsets([1]) };
  t.throws(() => cachedAttention(query, offsets, few, { heads: 1, causal: true }), { code, message: /2 queries but only 1 keys/ });
  t.throws(() => cachedAttention(query, offsets, { ...few, rows: Tensor.from(Int32Array.of(3)) }, { heads: 1 }), {
    code,
    message: /row 3 but key has 3/,
  });
  t.throws(() => cachedAttention(query, offsets, cache, { heads: 2 }), { code, message: /heads of equal size/ });
});

test("gelu is x times the normal distribution function", (t) => {
  const y = gelu(Tensor.from([-1, 0, 1, 3, -40, 40])).toArray();
  [-0.15865525, 0, 0.84134475, 2.9959503, 0, 40].forEach((value, i) => t.true(Math.abs((y[i] as number) - value) < 1e-6, `${y[i]}`));
  agreeOnAllInstructionSets(t, "gelu", () => [gelu(scaledTensor([1003], 1, 6)), gelu(scaledTensor([37, 3], 2, 0.01))], 1e-6);
  const x = randomTensor([40], 3);
  const expected = gelu(x).toArray();
  geluInPlace(x);
  t.deepEqual(x.toArray(), expected);
  t.true(Number.isNaN(gelu(Tensor.from([NaN])).toArray()[0]));
});

test("lstmCell agrees on every instruction set and keeps the cell where the forget gate is open", (t) => {
  agreeOnAllInstructionSets(t, "lstmCell", () => {
    const { hidden, cell } = lstmCell(scaledTensor([3, 4 * 21], 1, 8), randomTensor([3, 21], 2));
    return [hidden, cell];
  });
  const { hidden, cell } = lstmCell(Tensor.from([-50, 50, 9, 50], [1, 4]), Tensor.from([0.5], [1, 1]));
  t.true(Math.abs((cell.toArray()[0] as number) - 0.5) < 1e-6);
  t.true(Math.abs((hidden.toArray()[0] as number) - Math.tanh(0.5)) < 1e-6);
  t.throws(() => lstmCell(Tensor.zeros([1, 3]), Tensor.zeros([1, 1])), { code: "INVALID_ARGUMENT", message: /gates must have shape/ });
});

test("planeConvolution agrees on every instruction set and keeps sequences apart", (t) => {
  for (const { lengths, features, channels, kernel, stride, shared } of [
    { lengths: [1], features: 1, channels: 1, kernel: 3, stride: 2, shared: true },
    { lengths: [9, 0, 4], features: 10, channels: 20, kernel: 3, stride: 2, shared: true },
    { lengths: [8, 3], features: 7, channels: 33, kernel: 3, stride: 2, shared: false },
    { lengths: [6], features: 5, channels: 3, kernel: 5, stride: 1, shared: false },
  ]) {
    const offsets = new SequenceOffsets(lengths);
    const weight = randomTensor([channels, 1, kernel, kernel], 2);
    const options = { features, stride, padding: (kernel - 1) / 2, activation: "relu" } as const;
    const x = randomTensor([offsets.frames, features * (shared ? 1 : channels)], 1);
    const convolve = (input: Tensor, where: SequenceOffsets) =>
      planeConvolution(input, weight, randomTensor([channels], 3), where, options);
    agreeOnAllInstructionSets(t, `${lengths.join(", ")}`, () => [convolve(x, offsets).output]);
    const together = convolve(x, offsets);
    t.is(together.features, Math.floor((features - 1) / stride) + 1);
    const alone = convolve(x.rows(0, lengths[0] as number), new SequenceOffsets([lengths[0] as number]));
    t.deepEqual(alone.output.toArray(), together.output.rows(0, together.offsets.lengths[0] as number).toArray());
  }
  const x = Tensor.zeros([4, 6]);
  const one = [Tensor.zeros([2, 1, 3, 3]), Tensor.zeros([2]), new SequenceOffsets([4])] as const;
  t.throws(() => planeConvolution(x, ...one, { features: 4, stride: 2, padding: 1 }), {
    code: "INVALID_ARGUMENT",
    message: /4 features of 1 or 2 channels/,
  });
});

test("groupedConvolution agrees on every instruction set and keeps groups and sequences apart", (t) => {
  for (const { lengths, channels, groups, kernel, leftPadding } of [
    { lengths: [1], channels: 1, groups: 1, kernel: 1, leftPadding: 0 },
    { lengths: [20, 0, 3], channels: 12, groups: 4, kernel: 16, leftPadding: 8 },
    { lengths: [150], channels: 48, groups: 16, kernel: 5, leftPadding: 2 },
  ]) {
    const offsets = new SequenceOffsets(lengths);
    agreeOnAllInstructionSets(t, `${lengths.join(", ")}`, () => [
      groupedConvolution(
        randomTensor([offsets.frames, channels], 1),
        randomTensor([channels, kernel, channels / groups], 2),
        randomTensor([channels], 3),
        offsets,
        {
          groups,
          leftPadding,
        },
      ),
    ]);
  }
  // Two groups of one channel: 10 times the frame before plus the frame itself, and the frame itself.
  const y = groupedConvolution(
    Tensor.from([1, 5, 2, 6, 3, 7], [3, 2]),
    Tensor.from([10, 1, 0, 1], [2, 2, 1]),
    undefined,
    new SequenceOffsets([2, 1]),
    {
      groups: 2,
      leftPadding: 1,
    },
  );
  t.deepEqual([...y.toArray()], [1, 5, 12, 6, 3, 7]);
  t.throws(
    () =>
      groupedConvolution(Tensor.zeros([3, 4]), Tensor.zeros([4, 3, 4]), undefined, new SequenceOffsets([3]), { groups: 2, leftPadding: 1 }),
    {
      code: "INVALID_ARGUMENT",
      message: /does not convolve 4 channels in 2 groups/,
    },
  );
});

test("instanceNorm agrees on every instruction set and normalizes each sequence by itself", (t) => {
  agreeOnAllInstructionSets(t, "instanceNorm", () => {
    const offsets = new SequenceOffsets([400, 0, 7, 1]);
    const x = Tensor.from(
      randomValues(408 * 19, 1).map((value) => 3 + value),
      [408, 19],
    );
    return [instanceNorm(x, randomTensor([19], 2), randomTensor([19], 3), offsets, 1e-5)];
  });
  const y = instanceNorm(Tensor.from([1, 3, 100], [3, 1]), Tensor.from([2]), Tensor.from([1]), new SequenceOffsets([2, 1]), 0.0000001);
  y.toArray().forEach((value, i) => t.true(Math.abs(value - ([-1, 3, 1][i] as number)) < 1e-3));
});

test("rotateRows turns the halves of each head by the position in the sequence", (t) => {
  const x = Tensor.from([1, 0, 1, 0, 1, 0], [3, 2]);
  const y = rotateRows(x, new SequenceOffsets([2, 1]), 1, 10000).toArray();
  [1, 0, Math.cos(1), Math.sin(1), 1, 0].forEach((value, i) => t.true(Math.abs(value - (y[i] as number)) < 1e-6));
  t.throws(() => rotateRows(x, new SequenceOffsets([3]), 2, 10000), { code: "INVALID_ARGUMENT", message: /even size/ });
});

test("gatherRows and padSequences copy rows, and refuse those that are not there", (t) => {
  const x = Tensor.from([1, 2, 3, 4, 5, 6], [3, 2]);
  t.deepEqual([...gatherRows(x, [2, 0, 2]).toArray()], [5, 6, 1, 2, 5, 6]);
  t.throws(() => gatherRows(x, [3]), { code: "INVALID_ARGUMENT", message: /index 0 is 3 but x has rows 0\.\.2/ });
  t.throws(() => gatherRows(x, [-1]), { code: "INVALID_ARGUMENT" });
  const { output, offsets } = padSequences(x, new SequenceOffsets([1, 2]), [1, 0]);
  t.deepEqual([...output.toArray()], [0, 0, 1, 2, 0, 0, 3, 4, 5, 6]);
  t.deepEqual(offsets.lengths, [2, 3]);
});
