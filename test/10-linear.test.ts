import test from "ava";
import {
  availableInstructionSets,
  dropout,
  linear,
  matmul,
  scaledSum,
  setInstructionSet,
  setThreadCount,
  Tape,
  Tensor,
  threadCount,
  tidy,
  UsmLiteError,
  type Activation,
  type LinearOptions,
} from "../lib/operations.js";
import { checkGradients, randomTensor, randomValues } from "./gradient.js";

const fastSets = availableInstructionSets().filter((set) => set !== "reference");

test.afterEach(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

/** Runs `operation` with the plain C++ kernels and with every other set; results must agree to `tolerance`. */
function agrees(operation: () => Tensor, tolerance: number): string | undefined {
  return tidy(() => {
    setInstructionSet("reference");
    const expected = operation().toArray();
    for (const set of fastSets) {
      setInstructionSet(set);
      const actual = operation().toArray();
      for (let i = 0; i < expected.length; i++) {
        const wanted = expected[i] as number;
        const got = actual[i] as number;
        if (!(Object.is(wanted, got) || Math.abs(wanted - got) <= tolerance)) return `${set}[${i}]: ${got}, not ${wanted}`;
      }
    }
    return undefined;
  });
}

/** Sizes around the edges of register tiles, panels and blocks, then random ones. */
function shapes(): [m: number, n: number, k: number][] {
  const list: [number, number, number][] = [
    [1, 1, 1],
    [1, 16, 8],
    [6, 16, 384],
    [7, 17, 385],
    [5, 33, 769],
    [1, 100, 1000],
    [145, 31, 9],
    [12, 32, 256],
    [97, 47, 400],
    [300, 5, 3],
    [3, 0, 4],
    [0, 3, 4],
    [4, 3, 0],
  ];
  const random = randomValues(45, 5).map((value) => Math.abs(value) * 120);
  for (let i = 0; i < 45; i += 3) list.push([...random.subarray(i, i + 3)].map(Math.ceil) as [number, number, number]);
  return list;
}

test("matmul agrees with the reference for odd sizes and every transposition", (t) => {
  for (const [m, n, k] of shapes()) {
    for (const [transposeA, transposeB] of [
      [false, true],
      [false, false],
      [true, false],
      [true, true],
    ] as const) {
      const a = randomTensor(transposeA ? [k, m] : [m, k], 1);
      const b = randomTensor(transposeB ? [n, k] : [k, n], 2);
      const difference = agrees(() => matmul(a, b, { transposeA, transposeB, scale: 0.7 }), 3e-6 * Math.sqrt(k) + 1e-6);
      t.is(difference, undefined, `${m}x${n}x${k} ${transposeA} ${transposeB}`);
    }
  }
});

test("linear agrees with the reference with every kind of epilogue", (t) => {
  for (const [frames, out, inputs] of shapes()) {
    const x = randomTensor([frames, inputs], 1);
    const weight = randomTensor([out, inputs, 1], 2);
    const bias = randomTensor([out], 3);
    const residual = randomTensor([frames, out], 4);
    const variants: LinearOptions[] = [
      { bias },
      { bias, activation: "relu" },
      { activation: "silu", scale: 0.5, residual },
      { bias, activation: "silu", residual, residualScale: 0.25, dropout: { probability: 0.3, seed: 2 ** 40 + 7 } },
    ];
    for (const options of variants) {
      const difference = agrees(() => linear(x, weight, options), 4e-6 * Math.sqrt(inputs) + 2e-6);
      t.is(difference, undefined, `${frames}x${out}x${inputs} ${JSON.stringify(Object.keys(options))}`);
    }
  }
});

test("large, infinite and undefined values come through as in the reference", (t) => {
  const values = [1e30, -1e30, 1e-40, -1e-40, 0, 1000, -1000, Infinity, -Infinity, NaN, 88, -88];
  const x = Tensor.from(values, [values.length, 1]);
  for (const activation of ["none", "relu"] as const) {
    const difference = agrees(() => linear(x, Tensor.from([1, 1], [2, 1]), { activation }), 0);
    t.is(difference, undefined, activation);
  }
  for (const set of fastSets) {
    setInstructionSet(set);
    const silu = linear(x, Tensor.from([1], [1, 1]), { activation: "silu" }).toArray();
    t.is(silu[5], 1000);
    t.true(Math.abs(silu[6] as number) < 1e-30);
    t.is(silu[7], Infinity);
    t.true(Number.isNaN(silu[9]));
  }
});

test("a row's result depends neither on the other rows nor on the number of threads", (t) => {
  const threads = threadCount();
  const x = randomTensor([331, 517], 1);
  const weight = randomTensor([70, 517], 2);
  const whole = linear(x, weight, { activation: "silu" });
  setThreadCount(1);
  t.deepEqual(linear(x, weight, { activation: "silu" }).toArray(), whole.toArray());
  setThreadCount(3);
  t.deepEqual(linear(x, weight, { activation: "silu" }).toArray(), whole.toArray());
  setThreadCount(threads);
  for (const [begin, end] of [
    [0, 1],
    [13, 20],
    [100, 300],
  ] as const) {
    const part = linear(x.rows(begin, end), weight, { activation: "silu" });
    t.deepEqual(part.toArray(), whole.rows(begin, end).toArray());
  }
});

test("dropout keeps its share, scales the rest and depends on the seed alone", (t) => {
  const x = Tensor.from(new Float32Array(200).fill(1), [200, 1]);
  const weight = Tensor.from(new Float32Array(100).fill(1), [100, 1]);
  const dropped = (seed: number): Float32Array => linear(x, weight, { dropout: { probability: 0.25, seed } }).toArray();
  const first = dropped(1);
  const kept = first.filter((value) => value !== 0);
  t.true(Math.abs(kept.length / first.length - 0.75) < 0.02);
  t.true(kept.every((value) => Math.abs(value - 4 / 3) < 1e-6));
  t.deepEqual(dropped(1), first);
  t.deepEqual(dropout(linear(x, weight), { probability: 0.25, seed: 1 }).toArray(), first);
  t.notDeepEqual(dropped(2), first);
});

test("gradients of matmul", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const [transposeA, transposeB] of [
      [false, true],
      [false, false],
      [true, false],
      [true, true],
    ] as const) {
      checkGradients(t, ([a, b]) => matmul(a as Tensor, b as Tensor, { transposeA, transposeB, scale: 1.5 }), [
        randomTensor(transposeA ? [7, 9] : [9, 7], 1),
        randomTensor(transposeB ? [5, 7] : [7, 5], 2),
      ]);
    }
  }
});

test("gradients of linear with every kind of epilogue", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const activation of ["none", "relu", "silu"] satisfies Activation[]) {
      for (const dropout of [undefined, { probability: 0.4, seed: 11 }]) {
        for (const [scale, residualScale] of [
          [1, 1],
          [0.5, 2],
        ] as const) {
          const x = randomTensor([6, 10], 21);
          const weight = randomTensor([9, 10], 22);
          checkGradients(
            t,
            ([x, weight, bias, residual]) =>
              linear(x as Tensor, weight as Tensor, { bias, activation, scale, residual, residualScale, dropout }),
            [x, weight, randomTensor([9], 23), randomTensor([6, 9], 24)],
            { step: 2e-3, samples: 15 },
          );
        }
      }
    }
  }
});

test("gradients flow without bias and residual, through a shared input and to a pointwise convolution's weight", (t) => {
  checkGradients(
    t,
    ([x, weight]) => linear(x as Tensor, weight as Tensor, { activation: "relu" }),
    [randomTensor([5, 6], 31), randomTensor([4, 6, 1], 32)],
    { step: 2e-3 },
  );
  checkGradients(t, ([x, weight]) => linear(linear(x as Tensor, weight as Tensor), weight as Tensor, { residual: x }), [
    randomTensor([5, 6], 33),
    randomTensor([6, 6], 34),
  ]);
});

test("gradients that reach a tensor by two ways are added in place", (t) => {
  const x = randomTensor([900, 37], 1);
  const weight = randomTensor([41, 37], 2);
  x.requiresGrad = weight.requiresGrad = true;
  const gradients = (uses: number): Float32Array[] => {
    using tape = new Tape();
    const output = tape.record(() => {
      const once = linear(x, weight, { scale: 0.5 });
      return uses === 1 ? once : scaledSum(once, 1, linear(x, weight, { scale: 0.5 }), 1);
    });
    tape.backward(output, randomTensor(output.shape, 3));
    return [x, weight].map((tensor) => tape.gradientOf(tensor)?.toArray() ?? new Float32Array());
  };
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const once = gradients(1);
    gradients(2).forEach((twice, which) => {
      twice.forEach((value, i) => {
        if (Math.abs(value - 2 * (once[which]?.[i] as number)) > 2e-4) t.fail(`${set}: input ${which}[${i}]`);
      });
    });
  }
  t.pass();
});

test("nothing is computed for inputs that need no gradient", (t) => {
  const x = randomTensor([3, 4], 1);
  const weight = randomTensor([2, 4], 2);
  weight.requiresGrad = true;
  using tape = new Tape();
  tape.backward(tape.record(() => linear(x, weight)));
  t.is(tape.gradientOf(x), undefined);
  t.deepEqual(tape.gradientOf(weight)?.shape, [2, 4]);
});

test("misuse of linear and matmul is a coded error that says what would be right", (t) => {
  const x = Tensor.zeros([3, 4]);
  const weight = Tensor.zeros([2, 4]);
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" } as const;
  t.throws(() => linear(x, Tensor.zeros([2, 5])), { ...invalid, message: /takes 5 features but x has 4/ });
  t.throws(() => linear(x, Tensor.zeros([2, 4, 3])), { ...invalid, message: /\(out, in\) or \(out, in, 1\)/ });
  t.throws(() => linear(Tensor.zeros([4]), weight), invalid);
  t.throws(() => linear(x, weight, { bias: Tensor.zeros([3]) }), invalid);
  t.throws(() => linear(x, weight, { residual: Tensor.zeros([2, 2]) }), invalid);
  t.throws(() => linear(x, weight, { activation: "tanh" as Activation }), { ...invalid, message: /none, relu or silu/ });
  t.throws(() => linear(x, weight, { dropout: { probability: 1, seed: 1 } }), invalid);
  t.throws(() => linear(x, weight, { dropout: { probability: 0.5, seed: -1 } }), invalid);
  t.throws(() => linear(x, Tensor.zeros([2, 4], "int8")), { ...invalid, message: /float32/ });
  t.throws(() => matmul(x, weight), { ...invalid, message: /4 columns against 2 rows/ });
  weight.dispose();
  t.throws(() => linear(x, weight), { instanceOf: UsmLiteError, code: "TENSOR_RELEASED" });
});
