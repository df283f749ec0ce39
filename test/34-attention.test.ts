import test from "ava";
import { attention, resetPeakMemory, memoryStatistics, SequenceOffsets, Tape, Tensor, tidy, type AttentionOptions } from "../lib/operations.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";
import { agreeOnAllInstructionSets } from "./instruction_sets.js";

interface Case extends AttentionOptions {
  lengths: number[];
  headDim: number;
}

function operands({ lengths, heads, keyValueHeads = heads, headDim }: Case, factor = 1): [Tensor, Tensor, Tensor, SequenceOffsets] {
  const offsets = new SequenceOffsets(lengths);
  const make = (width: number, seed: number): Tensor =>
    Tensor.from(
      randomValues(offsets.frames * width, seed).map((v) => v * factor),
      [offsets.frames, width],
    );
  return [make(heads * headDim, 1), make(keyValueHeads * headDim, 2), make(keyValueHeads * headDim, 3), offsets];
}

const cases: Record<string, Case> = {
  "one frame": { lengths: [1], heads: 1, headDim: 2, ropeTheta: 10000 },
  "several sequences, one of them empty": { lengths: [7, 0, 33, 1], heads: 4, headDim: 8, ropeTheta: 10000 },
  "an odd head size without rotary embedding": { lengths: [10, 29], heads: 3, headDim: 7, scale: 0.7 },
  "grouped queries": { lengths: [50, 12], heads: 6, keyValueHeads: 2, headDim: 12, ropeTheta: 500 },
  "heads of 44": { lengths: [61], heads: 4, headDim: 44, ropeTheta: 10000 },
  dropout: { lengths: [37, 20], heads: 2, headDim: 16, ropeTheta: 10000, dropout: { probability: 0.2, seed: 11 } },
  "more keys than a block": { lengths: [1100], heads: 1, headDim: 4, ropeTheta: 10000, dropout: { probability: 0.1, seed: 3 } },
};

for (const [name, which] of Object.entries(cases)) {
  test(`attention agrees on every instruction set: ${name}`, (t) => {
    for (const factor of [1, 6]) {
      agreeOnAllInstructionSets(
        t,
        `inputs x ${factor}`,
        () => {
          const [q, k, v, offsets] = operands(which, factor);
          for (const input of [q, k, v]) input.requiresGrad = true;
          const tape = new Tape();
          const out = tape.record(() => attention(q, k, v, offsets, which));
          tape.backward(out, randomTensor(out.shape, 4));
          const gradients = [q, k, v].map((input) => tape.gradientOf(input) as Tensor);
          return offsets.frames > 1 ? [out, ...gradients] : [out];
        },
        5e-5,
      );
    }
  });
}

for (const name of ["several sequences, one of them empty", "grouped queries", "dropout"]) {
  test(`attention has the right gradients: ${name}`, (t) => {
    const which = { ...(cases[name] as Case), lengths: [6, 3] };
    const [q, k, v, offsets] = operands(which);
    checkGradients(t, ([query, key, value]) => attention(query as Tensor, key as Tensor, value as Tensor, offsets, which), [q, k, v]);
  });
}

test("attention follows its formula", (t) => {
  // Position 1 turns (1, 0) by one radian; theta does not matter for a head of two.
  const q = Tensor.from([1, 0, 1, 0], [2, 2]);
  const v = Tensor.from([1, 0, 0, 1], [2, 2]);
  const out = attention(q, q, v, new SequenceOffsets([2]), { heads: 1, ropeTheta: 10000, scale: 2 }).toArray();
  const weight = 1 / (1 + Math.exp(2 * (Math.cos(1) - 1)));
  [weight, 1 - weight, 1 - weight, weight].forEach((expected, i) => t.true(Math.abs((out[i] as number) - expected) < 1e-6));
});

test("a sequence gives the same frames whatever else is in the batch", (t) => {
  const which: Case = { lengths: [5, 90, 700], heads: 2, headDim: 10, ropeTheta: 10000 };
  const [q, k, v, offsets] = operands(which);
  const together = attention(q, k, v, offsets, which).rows(5, 95).toArray();
  const [a, b, c] = [q, k, v].map((tensor) => tensor.rows(5, 95)) as [Tensor, Tensor, Tensor];
  t.deepEqual(attention(a, b, c, new SequenceOffsets([90]), which).toArray(), together);
});

test("memory grows with the frames, not with their square", (t) => {
  const which: Case = { lengths: [6000], heads: 1, headDim: 16, ropeTheta: 10000 };
  tidy(() => {
    const [q, k, v, offsets] = operands(which);
    resetPeakMemory();
    const before = memoryStatistics().bytesInUse;
    attention(q, k, v, offsets, which);
    const used = memoryStatistics().peakBytes - before;
    t.true(used < 8e6, `${used} bytes; scores alone would take 144 MB`);
  });
});

test("attention refuses operands that do not fit", (t) => {
  const x = Tensor.zeros([4, 6]);
  const offsets = new SequenceOffsets([4]);
  const code = "INVALID_ARGUMENT";
  t.throws(() => attention(x, x, x, offsets, { heads: 4 }), { code, message: /4 heads of equal size/ });
  t.throws(() => attention(x, x, x, offsets, { heads: 2, ropeTheta: 10000 }), { code, message: /even head size/ });
  t.throws(() => attention(x, x, x, offsets, { heads: 3, keyValueHeads: 2 }), { code, message: /multiple of keyValueHeads/ });
  t.throws(() => attention(x, Tensor.zeros([4, 3]), x, offsets, { heads: 2 }), { code, message: /key must have shape \(4, 6\)/ });
  t.throws(() => attention(x, x, x, new SequenceOffsets([5]), { heads: 2 }), { code, message: /offsets must begin/ });
});
