import test from "ava";
import { dropout, glu, logSoftmax, silu, softmax, Tape, Tensor } from "../lib/operations.js";
import { relu } from "../lib/ops/relu.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";
import { agreeOnAllInstructionSets } from "./instruction_sets.js";

/** Output and input gradient of an operation with one input. */
function withGradient(operation: (x: Tensor) => Tensor, x: Tensor): Tensor[] {
  x.requiresGrad = true;
  const tape = new Tape();
  const y = tape.record(() => operation(x));
  tape.backward(y, randomTensor(y.shape, 9));
  return [y, tape.gradientOf(x) as Tensor];
}

const scaled = (values: Float32Array, factor: number): Float32Array => values.map((value) => value * factor);

const operations: Record<string, (x: Tensor) => Tensor> = {
  silu: (x) => silu(x),
  "silu with dropout": (x) => silu(x, { dropout: { probability: 0.3, seed: 2 ** 52 + 12345 } }),
  relu,
  dropout: (x) => dropout(x, { probability: 0.1, seed: 7 }),
  glu,
  softmax,
  logSoftmax,
};

for (const [name, operation] of Object.entries(operations)) {
  test(`${name} and its gradient agree on every instruction set`, (t) => {
    for (const [rows, columns] of [
      [1, 2],
      [3, 38],
      [19, 130],
      [150, 202],
    ] as const) {
      for (const factor of [1, 30]) {
        agreeOnAllInstructionSets(t, `(${rows}, ${columns}) x ${factor}`, () =>
          withGradient(operation, Tensor.from(scaled(randomValues(rows * columns, 3), factor), [rows, columns])),
        );
      }
    }
  });

  test(`${name} has the right gradient`, (t) => {
    checkGradients(t, ([x]) => operation(x as Tensor), [randomTensor([5, 14], 6)]);
  });
}

test("activations follow their formulas", (t) => {
  const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
  silu(Tensor.from([-3, 0, 2]))
    .toArray()
    .forEach((value, i) => {
      const x = [-3, 0, 2][i] as number;
      t.true(Math.abs(value - x * sigmoid(x)) < 1e-6);
    });
  t.true(Math.abs((glu(Tensor.from([3, -2], [1, 2])).toArray()[0] as number) - 3 * sigmoid(-2)) < 1e-6);
  const probabilities = softmax(Tensor.from([0, Math.log(3)], [1, 2])).toArray();
  t.true(Math.abs((probabilities[0] as number) - 0.25) < 1e-6);
  t.true(Math.abs((logSoftmax(Tensor.from([0, Math.log(3)], [1, 2])).toArray()[1] as number) - Math.log(0.75)) < 1e-6);
});

test("extreme values stay finite", (t) => {
  const extreme = Tensor.from([-1e30, -200, -90, 0, 90, 200, 1e30, 3], [1, 8]);
  agreeOnAllInstructionSets(t, "silu", () => [silu(extreme)]);
  agreeOnAllInstructionSets(t, "softmax", () => [softmax(extreme)]);
  for (const operation of [silu, softmax, logSoftmax]) {
    for (const tensor of withGradient(operation, extreme.clone())) {
      t.true(
        tensor.toArray().every((value) => Number.isFinite(value)),
        operation.name,
      );
    }
  }
});

test("dropout keeps the right share, scaled so that the mean stays", (t) => {
  const ones = Tensor.from(new Float32Array(100_003).fill(1));
  for (const probability of [0, 0.1, 0.5, 0.9]) {
    const values = dropout(ones, { probability, seed: 5 }).toArray();
    const kept = values.filter((value) => value !== 0);
    t.true(Math.abs(kept.length / values.length - (1 - probability)) < 0.01, `${probability}`);
    t.true(kept.every((value) => Math.abs(value * (1 - probability) - 1) < 1e-3));
  }
});

test("a dropout mask is a function of its seed, and neighbours are independent", (t) => {
  const ones = Tensor.from(new Float32Array(40_000).fill(1));
  const mask = (seed: number): number[] => [...dropout(ones, { probability: 0.5, seed }).toArray()].map((v) => v / 2);
  const first = mask(1);
  t.deepEqual(mask(1), first);
  const other = mask(2);
  const agreement = (a: number[], b: number[]): number => a.filter((value, i) => value === b[i]).length / a.length;
  t.true(Math.abs(agreement(first, other) - 0.5) < 0.02);
  for (const distance of [1, 2, 3, 4]) {
    t.true(Math.abs(agreement(first.slice(0, -distance), first.slice(distance)) - 0.5) < 0.02, `distance ${distance}`);
  }
});

test("activations refuse wrong operands", (t) => {
  t.throws(() => glu(Tensor.zeros([2, 3])), { code: "INVALID_ARGUMENT", message: /even number of columns/ });
  t.throws(() => dropout(Tensor.zeros([2]), { probability: 1, seed: 0 }), { code: "INVALID_ARGUMENT", message: /probability/ });
  t.throws(() => dropout(Tensor.zeros([2]), { probability: 0.5, seed: -1 }), { code: "INVALID_ARGUMENT", message: /seed/ });
  t.throws(() => silu(Tensor.zeros([2], "int32")), { code: "INVALID_ARGUMENT", message: /float32/ });
  t.throws(() => softmax(Tensor.zeros([2, 0])), { code: "INVALID_ARGUMENT", message: /last axis/ });
});
