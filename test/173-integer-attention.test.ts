import test from "ava";
import {
  attention,
  availableInstructionSets,
  SequenceOffsets,
  setInstructionSet,
  Tape,
  Tensor,
  type AttentionOptions,
} from "../lib/operations.js";
import { relativeAttention, type RelativePositions } from "../lib/ops/relative_attention.js";
import { randomTensor, randomValues } from "./gradient.js";
import { agreeOnAllInstructionSets, relativeDifference } from "./instruction_sets.js";

interface Case extends AttentionOptions {
  readonly lengths: number[];
  readonly headDim: number;
}

const cases: Record<string, Case> = {
  "one frame": { lengths: [1], heads: 1, headDim: 2, ropeTheta: 10000 },
  "several sequences, one of them empty": { lengths: [7, 0, 33, 1], heads: 4, headDim: 8, ropeTheta: 10000 },
  "an odd head size without rotary embedding": { lengths: [10, 29], heads: 3, headDim: 7, scale: 0.7 },
  "grouped queries": { lengths: [50, 12], heads: 6, keyValueHeads: 2, headDim: 12, ropeTheta: 500 },
  "heads of half panels": { lengths: [61], heads: 2, headDim: 48, ropeTheta: 10000 },
  "more keys than a block": { lengths: [601], heads: 1, headDim: 20, ropeTheta: 10000 },
};

function operands({ lengths, heads, keyValueHeads = heads, headDim }: Case, factor = 1): [Tensor, Tensor, Tensor, SequenceOffsets] {
  const offsets = new SequenceOffsets(lengths);
  const make = (width: number, seed: number): Tensor =>
    Tensor.from(
      randomValues(offsets.frames * width, seed).map((value) => value * factor),
      [offsets.frames, width],
    );
  return [make(heads * headDim, 1), make(keyValueHeads * headDim, 2), make(keyValueHeads * headDim, 3), offsets];
}

for (const [name, which] of Object.entries(cases))
  test.serial(`attention in whole numbers agrees on every instruction set, and with that in floats: ${name}`, (t) => {
    for (const factor of [1, 6]) {
      const [q, k, v, offsets] = operands(which, factor);
      const inIntegers = (): Tensor => attention(q, k, v, offsets, { ...which, inIntegers: true });
      // Powers that lie between two whole numbers may go to either.
      agreeOnAllInstructionSets(t, `inputs x ${factor}`, () => [inIntegers()], 3e-4);
      const difference = relativeDifference(inIntegers().toArray(), attention(q, k, v, offsets, which).toArray());
      t.true(difference < 1e-2, `inputs x ${factor}: ${difference}`);
      t.true(difference > 0 || offsets.frames === 1, "it is not the same computation");
    }
  });

test.serial("a sequence gives the same bits whatever else is in the batch, on every instruction set", (t) => {
  const which: Case = { lengths: [5, 90, 300], heads: 2, headDim: 10, ropeTheta: 10000, inIntegers: true };
  const [q, k, v, offsets] = operands(which);
  const alone = [q, k, v].map((tensor) => tensor.rows(5, 95)) as [Tensor, Tensor, Tensor];
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const together = attention(q, k, v, offsets, which).rows(5, 95).toArray();
    t.deepEqual(attention(...alone, new SequenceOffsets([90]), which).toArray(), together, set);
  }
});

test.serial("extreme values: zeros, huge and tiny ones, and what is not finite spoils its own sequence alone", (t) => {
  const which: Case = { lengths: [4, 9], heads: 1, headDim: 6, inIntegers: true };
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const [q, k, v, offsets] = operands(which);
    const zero = Tensor.zeros(q.shape);
    const mean = attention(zero, k, v, offsets, which).toArray();
    t.true(relativeDifference(mean, attention(zero, k, v, offsets, { ...which, inIntegers: false }).toArray()) < 2e-3, `${set}: means`);
    t.deepEqual(attention(q, k, zero, offsets, which).toArray(), zero.toArray(), `${set}: no values`);
    for (const factor of [1e-42, 1e18]) {
      const [hugeQ, hugeK] = operands(which, factor);
      t.true(attention(hugeQ, hugeK, v, offsets, which).toArray().every(Number.isFinite), `${set}: x ${factor}`);
    }
    for (const [at, bad] of [NaN, Infinity, -Infinity].entries())
      for (const spoilt of ["query", "key", "value"]) {
        const inputs = { query: q.clone(), key: k.clone(), value: v.clone() };
        const tensor = inputs[spoilt as keyof typeof inputs];
        tensor.write(tensor.toArray().map((value, i) => (i === 6 + at ? bad : value)));
        const found = attention(inputs.query, inputs.key, inputs.value, offsets, which).toArray();
        t.true(found.subarray(0, 24).some(Number.isNaN), `${set}: ${bad} in ${spoilt}`);
        t.deepEqual(found.subarray(24), attention(q, k, v, offsets, which).toArray().subarray(24));
      }
  }
});

test.serial("gradients are those of floats, finite for any scores", (t) => {
  const which: Case = { lengths: [40, 11], heads: 2, headDim: 8, ropeTheta: 10000 };
  const gradients = (inIntegers: boolean, factor: number): Float32Array[] => {
    const [q, k, v, offsets] = operands(which, factor);
    for (const input of [q, k, v]) input.requiresGrad = true;
    const tape = new Tape();
    const out = tape.record(() => attention(q, k, v, offsets, { ...which, inIntegers }));
    tape.backward(out, randomTensor(out.shape, 4));
    return [q, k, v].map((input) => (tape.gradientOf(input) as Tensor).toArray());
  };
  const expected = gradients(false, 1);
  gradients(true, 1).forEach((found, i) => t.true(relativeDifference(found, expected[i] as Float32Array) < 5e-3, `input ${i}`));
  for (const found of gradients(true, 1e4)) t.true(found.every(Number.isFinite));
});

test.serial("dropout, and heads whose sums would not be exact, are computed in floats", (t) => {
  const dropout = { probability: 0.5, seed: 1 };
  for (const which of [
    { lengths: [12], heads: 1, headDim: 514 },
    { lengths: [30], heads: 2, headDim: 4, dropout },
  ]) {
    const [q, k, v, offsets] = operands(which);
    const [found, expected] = [true, false].map((inIntegers) => attention(q, k, v, offsets, { ...which, inIntegers }).toArray());
    t.deepEqual(found, expected);
  }
});

interface RelativeCase {
  readonly lengths: readonly number[];
  readonly heads: number;
  readonly keyValueHeads?: number;
  readonly headDim: number;
  readonly context?: readonly [number, number];
}

const relativeCases: Record<string, RelativeCase> = {
  "several sequences, one of them empty": { lengths: [7, 0, 33, 1, 60], heads: 4, headDim: 8 },
  "an odd head size and grouped queries": { lengths: [50, 12], heads: 6, keyValueHeads: 2, headDim: 7 },
  "more keys than a block, more queries than share keys": { lengths: [520], heads: 1, headDim: 6 },
  "a window": { lengths: [90, 3, 41], heads: 2, headDim: 10, context: [5, 2] },
  "a window of the frame itself": { lengths: [40], heads: 2, headDim: 4, context: [0, 0] },
  "a window longer than a block": { lengths: [700], heads: 1, headDim: 4, context: [290, 13] },
};

function relative({ lengths, heads, keyValueHeads = heads, headDim, context }: RelativeCase, factor: number, inIntegers: boolean): Tensor {
  const offsets = new SequenceOffsets(lengths);
  const longest = Math.max(...lengths);
  const [left, right] = context ?? [longest - 1, longest - 1];
  const scaled = (shape: [number, number], seed: number): Tensor =>
    Tensor.from(
      randomValues(shape[0] * shape[1], seed).map((value) => factor * value),
      shape,
    );
  const width = heads * headDim;
  const positions: RelativePositions = { keys: scaled([left + right + 1, width], 5), origin: left };
  const value = randomTensor([offsets.frames, keyValueHeads * headDim], 3);
  const biases = { contentBias: randomTensor([width], 6), positionBias: randomTensor([width], 7) };
  return relativeAttention(
    scaled([offsets.frames, width], 1),
    scaled([offsets.frames, keyValueHeads * headDim], 2),
    value,
    positions,
    offsets,
    {
      heads,
      keyValueHeads,
      ...biases,
      context,
      inIntegers,
    },
  );
}

for (const [name, which] of Object.entries(relativeCases))
  test.serial(`so does that with relative positions: ${name}`, (t) => {
    for (const factor of [1, 5]) {
      // Scales of values are those of the frames that a unit of work sees, which the reference has not.
      agreeOnAllInstructionSets(t, `inputs x ${factor}`, () => [relative(which, factor, true)], 2e-3);
      const difference = relativeDifference(relative(which, factor, true).toArray(), relative(which, factor, false).toArray());
      t.true(difference > 0 && difference < 1e-2, `inputs x ${factor}: ${difference}`);
    }
  });

test.serial("with relative positions too a sequence gives the same bits whatever else is in the batch", (t) => {
  for (const context of [undefined, [9, 4]] as const) {
    const offsets = new SequenceOffsets([5, 90, 310]);
    const x = randomTensor([offsets.frames, 8], 1);
    const table = randomTensor([2 * 310 - 1, 8], 2);
    const options = { heads: 2, contentBias: randomTensor([8], 3), positionBias: randomTensor([8], 4), context, inIntegers: true };
    const together = relativeAttention(x, x, x, { keys: table, origin: 309 }, offsets, options).rows(5, 95).toArray();
    const part = x.rows(5, 95);
    const alone = relativeAttention(part, part, part, { keys: table.rows(220, 399), origin: 89 }, new SequenceOffsets([90]), options);
    t.deepEqual(alone.toArray(), together);
  }
});

test.serial("positions that are not finite give NaN", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const x = randomTensor([6, 4], 1);
    const bias = Tensor.zeros([4]);
    const keys = Tensor.from(
      randomValues(44, 2).map((value, i) => (i === 20 ? NaN : value)),
      [11, 4],
    ); // distance 0
    const options = { heads: 1, contentBias: bias, positionBias: bias, inIntegers: true };
    const found = relativeAttention(x, x, x, { keys, origin: 5 }, new SequenceOffsets([6]), options).toArray();
    t.true(found.every(Number.isNaN), set);
  }
});
