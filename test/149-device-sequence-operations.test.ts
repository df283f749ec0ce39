import { assertClose } from "./gpu.js";
import test from "ava";
import { DeviceTensor, SequenceOffsets, Tensor, tidy } from "../lib/operations.js";
import { deviceAddRows, deviceCrossEntropy, deviceGatherRows } from "../lib/device/sequence_training.js";
import { crossEntropy } from "../lib/ops/cross_entropy.js";
import { gelu } from "../lib/ops/gelu.js";
import { linear } from "../lib/ops/linear.js";
import { gatherRows, padSequences } from "../lib/ops/row_copies.js";
import { gradientsOnCpu, gradientsOnGpu } from "./device_gradients.js";
import { randomTensor, randomValues } from "./gradient.js";

const invalid = { code: "INVALID_ARGUMENT" } as const;

test("cross-entropy and its gradient are those of the CPU", (t) => {
  for (const { columns, labels, labelSmoothing, size } of [
    { columns: 21, labels: [3, -1, 0, 20, 7], labelSmoothing: 0, size: 4 },
    { columns: 2100, labels: [2099, 5, -1], labelSmoothing: 0.1, size: 20 },
    { columns: 1, labels: [0], labelSmoothing: 0.2, size: 1 },
    { columns: 8, labels: [-1, -1], labelSmoothing: 0, size: 1 },
  ])
    tidy(() => {
      const rows = labels.length;
      const logits = DeviceTensor.from(
        Tensor.from(
          randomValues(rows * columns, 1).map((value) => size * value),
          [rows, columns],
        ),
      );
      const loss = (x: Tensor): Tensor => crossEntropy(x, labels, { labelSmoothing });
      const what = `${rows} of ${columns} columns, smoothing ${labelSmoothing}`;
      assertClose(t, loss(logits).toArray(), loss(logits.toTensor()).toArray(), 1e-5, what);
      const upstream = DeviceTensor.from(Tensor.from([2]), "float32");
      const [expected] = gradientsOnCpu([logits], upstream, ([x]) => loss(x as Tensor)) as [Float32Array];
      const [found] = gradientsOnGpu([logits], upstream.clone(), ([x]) => loss(x as Tensor)) as [Float32Array];
      assertClose(t, found, expected, 2 ** -8, what);
      if (labels[2] === -1) t.true(found.subarray(2 * columns, 3 * columns).every((value) => value === 0));
    });
  const one = (values: number[], label: number): number =>
    crossEntropy(DeviceTensor.from(Tensor.from(values, [1, values.length])), [label]).toArray()[0] as number;
  t.true(Math.abs(one([1e30, 0], 0)) < 1e-6, "huge logits");
  t.true(Number.isNaN(one([NaN, 0], 1)));
  t.true(Number.isNaN(one([-Infinity, 0], 1)));
  t.true(Number.isNaN(one([Infinity, 0], 1)));
});

test("rows are looked up, and what comes back is added to them in one order", (t) => {
  const indices = [4, 0, 4, 2, 4, 0, 300];
  const table = DeviceTensor.from(randomTensor([301, 20], 1), "float32");
  const gradient = DeviceTensor.from(randomTensor([7, 20], 2));
  const lookUp = ([x]: Tensor[]): Tensor => gatherRows(x as Tensor, indices);
  assertClose(t, lookUp([table]).toArray(), lookUp([table.toTensor()]).toArray(), 2 ** -8, "rows");
  const [expected] = gradientsOnCpu([table], gradient, lookUp) as [Float32Array];
  const [first, second] = [1, 2].map(() => gradientsOnGpu([table], gradient.clone(), lookUp)[0] as Float32Array) as [
    Float32Array,
    Float32Array,
  ];
  assertClose(t, first, expected, 1e-6, "gradient");
  t.deepEqual(second, first);
  // A table that also scores tokens has two gradients, which are added.
  const tied = ([x]: Tensor[]): Tensor => linear(lookUp([x as Tensor]), x as Tensor);
  const upstream = DeviceTensor.from(randomTensor([7, 301], 3));
  assertClose(
    t,
    gradientsOnGpu([table], upstream.clone(), tied)[0] as Float32Array,
    gradientsOnCpu([table], upstream, tied)[0] as Float32Array,
    2 ** -6,
    "tied",
  );
});

test("GELU and zeros around sequences have their gradients", (t) => {
  const values = Tensor.from(
    randomValues(5 * 24, 1).map((value) => 4 * value),
    [5, 24],
  );
  for (const type of ["bfloat16", "float16"] as const) {
    const [x, gradient] = [DeviceTensor.from(values, type), DeviceTensor.from(randomTensor([5, 24], 2), type)];
    const activate = ([y]: Tensor[]): Tensor => gelu(y as Tensor);
    assertClose(t, activate([x]).toArray(), activate([x.toTensor()]).toArray(), 2 ** -8, `gelu in ${type}`);
    const expected = gradientsOnCpu([x], gradient, activate)[0] as Float32Array;
    assertClose(t, gradientsOnGpu([x], gradient.clone(), activate)[0] as Float32Array, expected, 2 ** -8, `gradient of gelu in ${type}`);
  }

  const x = DeviceTensor.from(values);
  const weight = DeviceTensor.from(randomTensor([16, 24], 3), "float32");
  const bias = DeviceTensor.from(randomTensor([16], 4), "float32");
  const upstream = DeviceTensor.from(randomTensor([5, 16], 5));
  const expected = gradientsOnCpu([x, weight, bias], upstream, ([y, w, b]) => gelu(linear(y as Tensor, w as Tensor, { bias: b })));
  const found = gradientsOnGpu([x, weight, bias], upstream.clone(), ([y, w, b]) =>
    linear(y as Tensor, w as Tensor, { bias: b, activation: "gelu" }),
  );
  expected.forEach((values, i) => assertClose(t, found[i] as Float32Array, values, 2 ** -6, `input ${i} of a layer before gelu`));
  t.throws(() => linear(x.toTensor(), weight.toTensor(), { activation: "gelu" }), {
    ...invalid,
    message: /gelu follows a product in the same pass only on the GPU/,
  });

  const offsets = new SequenceOffsets([3, 0, 2]);
  const pad = ([y]: Tensor[]): Tensor => padSequences(y as Tensor, offsets, [1, 2]).output;
  const wide = DeviceTensor.from(randomTensor([14, 24], 6));
  t.deepEqual(gradientsOnGpu([x], wide.clone(), pad)[0], gradientsOnCpu([x], wide, pad)[0]);
});

test("misuse is a coded error", (t) => {
  const indices = (...values: number[]): Tensor => Tensor.from(Int32Array.from(values));
  const x = DeviceTensor.zeros([4, 8], "float32");
  const rows = DeviceTensor.zeros([2, 8]);
  t.throws(() => gatherRows(x, [0, 4]), { ...invalid, message: /index 1 is 4 but x has rows 0\.\.3/ });
  t.throws(() => deviceGatherRows(DeviceTensor.zeros([4, 8], "float16"), indices(0)), {
    ...invalid,
    message: /x is float16; it must be bfloat16 or float32/,
  });
  t.throws(() => deviceAddRows(x, indices(1, -1), rows), { ...invalid, message: /index 1 is -1/ });
  t.throws(() => deviceAddRows(x, indices(1), rows), { ...invalid, message: /rows must have shape \(1, 8\)/ });
  t.throws(() => deviceAddRows(rows, indices(1, 1), rows), { ...invalid, message: /x is bfloat16; it must be float32/ });
  t.throws(() => crossEntropy(rows, [0]), invalid);
  t.throws(() => crossEntropy(rows, [0, 8]), { ...invalid, message: /label 8 does not exist: there are 8 columns/ });
  t.throws(() => crossEntropy(rows, [0, -2]), { ...invalid, message: /label -2 is no column/ });
  t.throws(() => deviceCrossEntropy(x, indices(0, 0, 0, 0), { labelSmoothing: 0, factor: 1, wantsGradient: false }), {
    ...invalid,
    message: /logits is float32; it must be bfloat16/,
  });
  t.is(gatherRows(x, []).dim(0), 0);
});
