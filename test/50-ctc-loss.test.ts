import test from "ava";
import { availableInstructionSets, ctcLoss, SequenceOffsets, setInstructionSet, Tape, Tensor, tidy } from "../lib/operations.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";

/** What an alignment spells: repeats merged, then blanks (0) removed. */
function collapse(path: readonly number[]): string {
  return path.filter((label, t) => label !== path[t - 1] && label !== 0).join(" ");
}

/** -log of the summed probability of every alignment of `target`, by listing all of them. */
function enumerated(logits: Float32Array, vocabulary: number, target: readonly number[]): number {
  const frames = logits.length / vocabulary;
  let total = 0;
  for (let code = 0; code < vocabulary ** frames; code++) {
    const path = Array.from({ length: frames }, (_, t) => Math.floor(code / vocabulary ** t) % vocabulary);
    if (collapse(path) !== target.join(" ")) continue;
    let probability = 1;
    path.forEach((label, t) => {
      const row = [...logits.subarray(t * vocabulary, (t + 1) * vocabulary)];
      probability *= Math.exp(row[label] as number) / row.reduce((sum, x) => sum + Math.exp(x), 0);
    });
    total += probability;
  }
  return -Math.log(total);
}

/** Losses and gradient on one instruction set. */
function lossAndGradient(values: Float32Array, vocabulary: number, lengths: number[], targets: number[][]) {
  return tidy(() => {
    const logits = Tensor.from(values, [values.length / vocabulary, vocabulary]);
    logits.requiresGrad = true;
    using tape = new Tape();
    const { loss } = tape.record(() => ctcLoss(logits, new SequenceOffsets(lengths), targets, { reduction: "none", zeroInfinity: false }));
    tape.backward(loss);
    return { losses: loss.toArray(), gradient: (tape.gradientOf(logits) as Tensor).toArray() };
  });
}

test.serial("the loss is the sum over all alignments", (t) => {
  const lengths = [4, 5, 3, 6, 1];
  const targets = [[1, 2], [1, 1], [], [2, 1, 2], [2]];
  const vocabulary = 3;
  const values = randomValues(lengths.reduce((a, b) => a + b) * vocabulary, 7).map((x) => 3 * x);
  const offsets = new SequenceOffsets(lengths);
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const { loss } = ctcLoss(Tensor.from(values, [offsets.frames, vocabulary]), offsets, targets, { reduction: "none" });
    loss.toArray().forEach((value, i) => {
      const begin = offsets.begin(i) * vocabulary;
      const expected = enumerated(values.subarray(begin, begin + (lengths[i] as number) * vocabulary), vocabulary, targets[i] as number[]);
      t.true(Math.abs(value - expected) < 1e-4 * Math.max(1, expected), `${set}, sequence ${i}: ${value}, not ${expected}`);
    });
  }
});

test.serial("gradients are those of finite differences", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const offsets = new SequenceOffsets([6, 0, 9, 4]);
    const targets = [[1, 1, 4], [], [2, 3, 2, 2], []];
    for (const reduction of ["mean", "sum", "none"] as const) {
      checkGradients(t, ([logits]) => ctcLoss(logits as Tensor, offsets, targets, { reduction }).loss, [randomTensor([19, 5], 3)]);
    }
    checkGradients(
      t,
      ([logits]) =>
        ctcLoss(
          logits as Tensor,
          offsets,
          targets.map((row) => row.map((x) => x - 1)),
          { blank: 4 },
        ).loss,
      [randomTensor([19, 5], 4)],
    );
  }
});

test.serial("instruction sets agree on random and extreme batches", (t) => {
  const cases = [
    { vocabulary: 2, scale: 1, lengths: [7, 3], targets: [[1], [1, 1]] },
    {
      vocabulary: 33,
      scale: 5,
      lengths: [40, 0, 25, 100],
      targets: [[3, 3, 9, 1], [], [], Array.from({ length: 40 }, (_, i) => 1 + ((i * i) % 32))],
    },
    { vocabulary: 64, scale: 60, lengths: [90], targets: [Array.from({ length: 17 }, (_, i) => 1 + (i % 5))] },
    {
      vocabulary: 19,
      scale: 1000,
      lengths: [30, 12],
      targets: [
        [1, 2, 3],
        [4, 4],
      ],
    },
    { vocabulary: 40, scale: 2, lengths: [3000], targets: [Array.from({ length: 700 }, (_, i) => 1 + ((i * 7) % 39))] },
  ];
  cases.forEach(({ vocabulary, scale, lengths, targets }, which) => {
    const values = randomValues(lengths.reduce((a, b) => a + b) * vocabulary, which).map((x) => scale * x);
    setInstructionSet("reference");
    const expected = lossAndGradient(values, vocabulary, lengths, targets);
    for (const set of availableInstructionSets().slice(1)) {
      setInstructionSet(set);
      const actual = lossAndGradient(values, vocabulary, lengths, targets);
      actual.losses.forEach((loss, i) => {
        const wanted = expected.losses[i] as number;
        t.true(Math.abs(loss - wanted) <= 1e-5 * Math.max(1, wanted), `${set}, case ${which}: loss ${loss}, not ${wanted}`);
      });
      const worst = actual.gradient.reduce((most, g, i) => Math.max(most, Math.abs(g - (expected.gradient[i] as number))), 0);
      t.true(worst < 5e-4, `${set}, case ${which}: gradient differs by ${worst}`);
    }
  });
});

test.serial("transcripts that do not fit have infinite loss, zeroed on request", (t) => {
  const lengths = [3, 2, 0, 5];
  const targets = [[1, 1], [1, 1], [2], [1, 2]]; // the second needs three frames, the third has none
  const offsets = new SequenceOffsets(lengths);
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const logits = randomTensor([10, 4], 5);
    const unzeroed = ctcLoss(logits, offsets, targets, { reduction: "none", zeroInfinity: false });
    t.deepEqual([...unzeroed.loss.toArray()].map(Number.isFinite), [true, false, false, true]);
    t.is(unzeroed.infeasible, 2);
    t.is(ctcLoss(logits, offsets, targets, { zeroInfinity: false }).loss.toArray()[0], Infinity);

    logits.requiresGrad = true;
    using tape = new Tape();
    const { loss, infeasible } = tape.record(() => ctcLoss(logits, offsets, targets));
    tape.backward(loss);
    t.is(infeasible, 2);
    const [first, , , last] = unzeroed.loss.toArray() as unknown as [number, number, number, number];
    t.true(Math.abs((loss.toArray()[0] as number) - (first / 2 + last / 2) / 4) < 1e-5);
    const gradient = (tape.gradientOf(logits) as Tensor).toArray();
    t.true(gradient.subarray(3 * 4, 5 * 4).every((g) => g === 0));
    t.true(gradient.subarray(0, 3 * 4).some((g) => g !== 0));
  }
});

test.serial("logits that are not finite give NaN, in their own sequence only", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const bad of [NaN, Infinity, -Infinity]) {
      const values = randomValues(8 * 11, 6);
      values[2 * 11 + 10] = bad;
      const { losses, gradient } = lossAndGradient(values, 11, [4, 4], [[1], [2]]);
      t.true(Number.isNaN(losses[0]) && Number.isFinite(losses[1]), set);
      t.true(gradient.subarray(0, 44).every(Number.isNaN) && gradient.subarray(44).every(Number.isFinite));
    }
  }
});

test("misuse is a coded error", (t) => {
  const logits = randomTensor([5, 4], 1);
  const offsets = new SequenceOffsets([5]);
  t.throws(() => ctcLoss(logits, offsets, [[1], [2]]), { code: "INVALID_ARGUMENT", message: /1 sequences of logits but 2 targets/ });
  t.throws(() => ctcLoss(logits, offsets, [[4]]), { code: "INVALID_ARGUMENT", message: /label 4 must be between 0 and 3/ });
  t.throws(() => ctcLoss(logits, offsets, [[0]]), { code: "INVALID_ARGUMENT", message: /not the blank/ });
  t.throws(() => ctcLoss(logits, offsets, [[1]], { blank: 9 }), { code: "INVALID_ARGUMENT" });
  t.throws(() => ctcLoss(logits, new SequenceOffsets([4]), [[1]]), { code: "INVALID_ARGUMENT" });
  t.throws(() => ctcLoss(Tensor.zeros([5]), offsets, [[1]]), { code: "INVALID_ARGUMENT" });
});
