import test from "ava";
import {
  availableInstructionSets,
  linear,
  lstmSequence,
  memoryStatistics,
  resetPeakMemory,
  scaledSum,
  SequenceOffsets,
  setInstructionSet,
  Tape,
  Tensor,
  tidy,
  transducerLoss,
  type TransducerLossOptions,
} from "../lib/operations.js";
import { lstmCell } from "../lib/ops/lstm_cell.js";
import { gatherRows } from "../lib/ops/row_copies.js";
import { checkGradients, randomTensor } from "./gradient.js";
import { lossOf, operands, plain, resultOf, timed, type TransducerCase } from "./transducer_cases.js";

const softmax = (row: number[]): number[] => {
  const total = row.reduce((sum, x) => sum + Math.exp(x), 0);
  return row.map((x) => Math.exp(x) / total);
};

/** -ln of the summed probability of all paths of one utterance, by walking every one of them. */
function enumerated(
  frames: number,
  target: readonly number[],
  vocabulary: number,
  options: TransducerLossOptions,
  logits: (t: number, u: number) => number[],
): number {
  const { blank, durations = [], undernormalization = 0 } = options;
  const walk = (t: number, u: number): number => {
    if (t === frames) return u === target.length ? 1 : 0;
    if (t > frames) return 0;
    const row = logits(t, u);
    const tokens = softmax(row.slice(0, vocabulary)).map((p) => p * Math.exp(-undernormalization));
    const shares = durations.length > 0 ? softmax(row.slice(vocabulary)) : [];
    const label = u < target.length ? (tokens[target[u] as number] as number) : 0;
    if (durations.length === 0) return (tokens[blank] as number) * walk(t + 1, u) + (label > 0 ? label * walk(t, u + 1) : 0);
    return durations.reduce((sum, duration, d) => {
      const share = shares[d] as number;
      const silent = duration > 0 ? share * (tokens[blank] as number) * walk(t + duration, u) : 0;
      // A label cannot take the last frame: a blank must follow.
      const spoken = label > 0 && t + duration < frames ? share * label * walk(t + duration, u + 1) : 0;
      return sum + silent + spoken;
    }, 0);
  };
  return -Math.log(walk(0, 0));
}

test.serial("losses are sums over all paths", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const one of [plain, timed]) {
      const [frames, predictions, weight, bias] = operands(one, 3).map((tensor) => tensor.toArray()) as [
        Float32Array,
        Float32Array,
        Float32Array,
        Float32Array,
      ];
      const { joint } = one;
      const losses = lossOf(one, operands(one, 3)).toArray();
      let prediction = 0;
      one.lengths.forEach((length, i) => {
        const first = one.lengths.slice(0, i).reduce((a, b) => a + b, 0);
        const firstPrediction = prediction;
        const target = one.targets[i] as readonly number[];
        prediction += target.length + 1;
        const expected = enumerated(length, target, one.vocabulary, one.options, (frame, u) => {
          const hidden = Array.from({ length: joint }, (_, j) =>
            Math.max(0, (frames[(first + frame) * joint + j] as number) + (predictions[(firstPrediction + u) * joint + j] as number)),
          );
          return Array.from(bias, (b, v) => hidden.reduce((sum, h, j) => sum + h * (weight[v * joint + j] as number), b));
        });
        t.true(
          Math.abs((losses[i] as number) - expected) < 1e-5 * Math.max(1, expected),
          `${set}, sequence ${i}: ${losses[i]}, not ${expected}`,
        );
      });
    }
  }
});

test.serial("gradients are those of finite differences", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const reduction of ["mean", "mean-volume", "sum", "none"] as const) {
      for (const one of [plain, timed]) {
        const reduced = { ...one, options: { ...one.options, reduction } };
        checkGradients(t, (inputs) => lossOf(reduced, inputs), operands(one, 5), { step: 2e-3, samples: 12 });
      }
    }
  }
});

/** Losses and the four gradients on the instruction set in force. */
const everything = (one: TransducerCase, seed: number): Float32Array[] =>
  tidy(() => {
    const inputs = operands(one, seed);
    for (const input of inputs) input.requiresGrad = true;
    using tape = new Tape();
    const loss = tape.record(() => lossOf(one, inputs));
    tape.backward(loss);
    return [loss.toArray(), ...inputs.map((input) => (tape.gradientOf(input) as Tensor).toArray())];
  });

test.serial("instruction sets agree, on slabs of many rows and on sharp distributions", (t) => {
  const labels = (count: number, vocabulary: number): number[] =>
    Array.from({ length: count }, (_, i) => 1 + ((i * i + 3 * i) % (vocabulary - 1)));
  const cases: TransducerCase[] = [
    { lengths: [40, 9, 23], targets: [labels(11, 67), [], labels(30, 67)], vocabulary: 67, joint: 19, options: { blank: 0 } },
    {
      lengths: [90],
      targets: [labels(25, 33)],
      vocabulary: 33,
      joint: 16,
      options: { blank: 0, durations: [0, 1, 2, 3, 4], reduction: "mean" },
    },
    { lengths: [12, 6], targets: [labels(4, 9), labels(5, 9)], vocabulary: 9, joint: 7, options: { blank: 0 }, scale: 40 },
  ];
  cases.forEach((one, which) => {
    setInstructionSet("reference");
    const expected = everything(one, which);
    for (const set of availableInstructionSets().slice(1)) {
      setInstructionSet(set);
      everything(one, which).forEach((values, part) => {
        const wanted = expected[part] as Float32Array;
        const largest = Math.max(1e-6, ...wanted.map(Math.abs));
        const worst = values.reduce((most, value, i) => Math.max(most, Math.abs(value - (wanted[i] as number))), 0) / largest;
        t.true(worst < 1e-4, `${set}, case ${which}, part ${part}: differs by ${worst}`);
      });
    }
  });
});

test.serial("transcripts that do not fit have infinite loss, zeroed on request", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    // Durations of 2 cannot end after 3 frames; no frames hold nothing.
    const one: TransducerCase = {
      lengths: [4, 3, 0],
      targets: [[1], [1], []],
      vocabulary: 3,
      joint: 4,
      options: { blank: 0, durations: [2], reduction: "none" },
    };
    const inputs = operands(one, 8);
    const kept = lossOf({ ...one, options: { ...one.options, zeroInfinity: false } }, inputs).toArray();
    t.deepEqual([...kept].map(Number.isFinite), [true, false, false]);
    t.deepEqual([...lossOf(one, inputs).toArray()].slice(1), [0, 0]);
    const gradient = everything({ ...one, options: { ...one.options, reduction: "sum" } }, 8)[1] as Float32Array;
    t.true(gradient.subarray(0, 16).some((g) => g !== 0) && gradient.subarray(16).every((g) => g === 0));
    const [frames, predictions, weight, bias] = inputs as [Tensor, Tensor, Tensor, Tensor];
    t.is(transducerLoss(frames, new SequenceOffsets(one.lengths), predictions, one.targets, { weight, bias }, one.options).infeasible, 2);
  }
});

test.serial("values that are not finite give NaN, in the losses of their own sequence only", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const bad of [NaN, Infinity]) {
      const inputs = operands(plain, 9);
      const values = (inputs[0] as Tensor).toArray();
      values[1] = bad;
      (inputs[0] as Tensor).write(values);
      const losses = [...lossOf(plain, inputs).toArray()];
      t.deepEqual(losses.map(Number.isNaN), [true, false, false, false], set);
      for (const input of inputs) input.requiresGrad = true;
      using tape = new Tape();
      tape.backward(tape.record(() => lossOf(plain, inputs)));
      t.true(Number.isNaN((tape.gradientOf(inputs[2] as Tensor) as Tensor).toArray()[0]));
    }
  }
});

test.serial("a teacher is followed along its paths", (t) => {
  const divergenceOf = (one: TransducerCase, inputs: Tensor[], teacher: Tensor): Tensor =>
    resultOf(one, inputs, { teacher }).divergence as Tensor;
  const latticeOf = (one: TransducerCase, inputs: Tensor[]): Tensor => resultOf(one, inputs, { undernormalization: 0 }).lattice;
  const values: number[] = [];
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const one of [plain, timed]) {
      const teacher = latticeOf(one, operands({ ...one, scale: 3 }, 21));
      const student = operands(one, 5);
      t.true(Math.abs(divergenceOf(one, student, latticeOf(one, student)).toArray()[0] as number) < 1e-5, set);
      values.push(divergenceOf(one, student, teacher).toArray()[0] as number);
      checkGradients(t, (inputs) => divergenceOf(one, inputs, teacher), student, { step: 5e-4, samples: 12 });
      // Both at once, as in training.
      const sum = { ...one, options: { ...one.options, reduction: "sum" as const } };
      checkGradients(t, (inputs) => scaledSum(lossOf(sum, inputs), 1, divergenceOf(sum, inputs, teacher), 3), student, {
        step: 5e-4,
        samples: 6,
      });
      t.throws(() => divergenceOf(one, student, Tensor.zeros([3])), { code: "INVALID_ARGUMENT", message: /teacher/ });
    }
  }
  values.forEach((value, i) => t.true(value > 0.05 && Math.abs(value - (values[i % 2] as number)) < 1e-4));
});

test.serial("memory does not hold the logits of all pairs", (t) => {
  const labels = Array.from({ length: 60 }, (_, i) => 1 + (i % 500));
  const one: TransducerCase = { lengths: [120], targets: [labels], vocabulary: 512, joint: 8, options: { blank: 0 } };
  const inputs = operands(one, 1);
  for (const input of inputs) input.requiresGrad = true;
  resetPeakMemory();
  const before = memoryStatistics().bytesInUse;
  tidy(() => {
    using tape = new Tape();
    tape.backward(tape.record(() => lossOf(one, inputs)));
  });
  const all = 120 * 61 * 512 * 4; // bytes
  t.true(memoryStatistics().peakBytes - before < 0.7 * all, `${memoryStatistics().peakBytes - before} of ${all} bytes`);
});

test.serial("a layer over sequences is its cell step by step", (t) => {
  const hidden = 11;
  const lengths = [5, 0, 1, 7];
  const inputs = randomTensor([13, 4 * hidden], 1);
  const recurrent = randomTensor([4 * hidden, hidden], 2);
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const states = lstmSequence(inputs, recurrent, new SequenceOffsets(lengths)).toArray();
    let row = 0;
    for (const length of lengths) {
      let state = { hidden: Tensor.zeros([1, hidden]), cell: Tensor.zeros([1, hidden]) };
      for (let step = 0; step < length; step++, row++) {
        state = lstmCell(linear(state.hidden, recurrent, { residual: inputs.rows(row, row + 1) }), state.cell);
        const values = state.hidden.toArray();
        values.forEach((value, i) => t.true(Math.abs(value - (states[row * hidden + i] as number)) < 1e-5, `${set}, row ${row}`));
      }
    }
    checkGradients(t, ([x, w]) => lstmSequence(x as Tensor, w as Tensor, new SequenceOffsets(lengths)), [inputs, recurrent], {
      samples: 60,
    });
  }
});

test("embeddings gather the gradients of all their uses", (t) => {
  checkGradients(t, ([table]) => gatherRows(table as Tensor, [2, 0, 2, 1]), [randomTensor([4, 3], 1)]);
});

test("misuse is a coded error", (t) => {
  const [frames, predictions, weight, bias] = operands(plain, 1) as [Tensor, Tensor, Tensor, Tensor];
  const offsets = new SequenceOffsets(plain.lengths);
  const call =
    (targets: readonly (readonly number[])[], options: TransducerLossOptions = { blank: 0 }, joint = { weight, bias }): (() => unknown) =>
    () =>
      transducerLoss(frames, offsets, predictions, targets, joint, options);
  t.throws(call([[1, 2]]), { code: "INVALID_ARGUMENT", message: /4 sequences of frames but 1 targets/ });
  t.throws(call([[1, 3], [], [2], [2, 2, 1]]), { code: "INVALID_ARGUMENT", message: /label 3 must be between 0 and 2/ });
  t.throws(call([[1, 0], [], [2], [2, 2, 1]]), { code: "INVALID_ARGUMENT", message: /not the blank/ });
  t.throws(call([[1], [], [2], [2, 2, 1]]), { code: "INVALID_ARGUMENT" });
  t.throws(call(plain.targets, { blank: 7 }), { code: "INVALID_ARGUMENT" });
  t.throws(call(plain.targets, { blank: 0, durations: [0, -1] }), { code: "INVALID_ARGUMENT", message: /duration -1|durations/ });
  t.throws(call(plain.targets, { blank: 0, durations: [1, 2, 3] }), { code: "INVALID_ARGUMENT", message: /rows for a vocabulary/ });
  t.throws(call(plain.targets, { blank: 0 }, { weight, bias: Tensor.zeros([7]) }), { code: "INVALID_ARGUMENT" });
  t.throws(() => lstmSequence(Tensor.zeros([3, 8]), Tensor.zeros([8, 3]), new SequenceOffsets([3])), { code: "INVALID_ARGUMENT" });
});
