import { assertClose } from "./gpu.js";
import test from "ava";
import { AdamW, DeviceTensor, fakeQuantize, linear, Tensor, tidy, WeightAverage } from "../lib/index.js";
import { deviceAddProduct, deviceProduct } from "../lib/device/training_operations.js";
import { deviceCountMaskChanges } from "../lib/device/training_operations.js";
import { MaskChanges } from "../lib/train/mask_changes.js";
import type { LinearOptions } from "../lib/ops/linear.js";
import { randomTensor, randomValues } from "./gradient.js";
import { onBoth, outcome, rounded } from "./both_devices.js";

test("products of transposed matrices, alone and added up", (t) => {
  for (const [m, k, n] of [
    [5, 16, 24],
    [70, 33, 9],
  ] as const) {
    const [a, b] = [rounded([m, k], 1), rounded([k, n], 2)];
    const transposed = (x: Tensor): Tensor => {
      const [rows, columns] = x.shape as [number, number];
      const values = x.toArray();
      return Tensor.from(
        Float32Array.from({ length: rows * columns }, (_, i) => values[(i % rows) * columns + Math.floor(i / rows)] as number),
        [columns, rows],
      );
    };
    const values = [a.toArray(), b.toArray()] as const;
    const expected = Float32Array.from({ length: m * n }, (_, i) => {
      let sum = 0;
      for (let j = 0; j < k; j++) sum += (values[0][Math.floor(i / n) * k + j] as number) * (values[1][j * n + (i % n)] as number);
      return sum;
    });
    for (const [ta, tb] of [
      [false, false],
      [true, false],
      [false, true],
      [true, true],
    ] as const) {
      const left = { matrix: DeviceTensor.from(ta ? transposed(a) : a), transposed: ta };
      const right = { matrix: DeviceTensor.from(tb ? transposed(b) : b), transposed: tb };
      assertClose(
        t,
        deviceProduct(left, right, 0.5).toArray(),
        expected.map((v) => 0.5 * v),
        2 ** -7,
        `${m} x ${k} x ${n}, ${ta}, ${tb}`,
      );
      const wide = deviceProduct(left, right, 0.5, "float32");
      t.is(wide.type, "float32");
      assertClose(
        t,
        wide.toArray(),
        expected.map((v) => 0.5 * v),
        2 ** -7,
        `${m} x ${k} x ${n}, float32`,
      );
      const ones = Tensor.from(new Float32Array(m * n).fill(1), [m, n]);
      const narrow = DeviceTensor.from(ones);
      deviceAddProduct(narrow, left, right, 0.5);
      assertClose(
        t,
        narrow.toArray(),
        expected.map((v) => 1 + 0.5 * v),
        2 ** -7,
        `${m} x ${k} x ${n}, bfloat16 sum`,
      );
      const sum = DeviceTensor.from(ones, "float32");
      deviceAddProduct(sum, left, right);
      assertClose(
        t,
        sum.toArray(),
        expected.map((v) => 1 + v),
        2 ** -7,
        `sum, ${ta}, ${tb}`,
      );
    }
  }
});

test("a linear layer and its gradients are those of the CPU", (t) => {
  const cases: LinearOptions[] = [
    {},
    { activation: "silu", dropout: { probability: 0.25, seed: 77 } },
    { activation: "relu", scale: 0.5, residualScale: 1.5 },
    { scale: 2, dropout: { probability: 0.1, seed: 3 } },
  ];
  cases.forEach((options, index) => {
    for (const [frames, inputs, outputs] of [
      [9, 16, 24],
      [133, 40, 30],
    ] as const) {
      tidy(() => {
        const tensors = {
          x: rounded([frames, inputs], 1),
          weight: rounded([outputs, inputs], 2),
          // Not before relu, whose slope jumps: where a bias nearly cancels a sum, rounding the sum decides on which side it falls.
          ...(options.activation !== "relu" && index > 0 && { bias: randomTensor([outputs], 3) }),
          ...(index === 2 && { residual: rounded([frames, outputs], 4) }),
        } as Record<string, Tensor>;
        const both = onBoth(tensors, ["x", "residual"]);
        const seed = rounded([frames, outputs], 5);
        const run = (inputs: Record<string, Tensor>, gradient: Tensor): Record<string, Float32Array> =>
          outcome(inputs, gradient, () =>
            linear(inputs["x"] as Tensor, inputs["weight"] as Tensor, { ...options, bias: inputs["bias"], residual: inputs["residual"] }),
          );
        const expected = run(both.cpu, seed);
        const found = run(both.gpu, DeviceTensor.from(seed));
        for (const [name, values] of Object.entries(expected))
          assertClose(t, found[name] as Float32Array, values, 1.5e-2, `case ${index}, ${frames} frames, ${name}`);
      });
    }
  });
});

test("gradients of a weight that is used twice are added up", (t) => {
  const both = onBoth<"x" | "weight">({ x: rounded([6, 16], 1), weight: rounded([16, 16], 2) }, ["x"]);
  const run = ({ x, weight }: typeof both.cpu, seed: Tensor): Record<string, Float32Array> =>
    outcome({ x, weight }, seed, () => linear(linear(x, weight, { activation: "silu" }), weight, { residual: x }));
  const seed = rounded([6, 16], 3);
  const [expected, found] = [run(both.cpu, seed), run(both.gpu, DeviceTensor.from(seed))];
  for (const name of ["output", "x", "weight"]) assertClose(t, found[name] as Float32Array, expected[name] as Float32Array, 2e-2, name);
});

test("changes of masks are counted where the masks are", (t) => {
  for (const [rows, columns] of [
    [1, 1],
    [7, 33],
    [300, 50], // more rows than the counting blocks take at once
  ] as const) {
    const mask = (seed: number): Tensor =>
      Tensor.from(
        Uint8Array.from(randomTensor([rows, columns], seed).toArray(), (x) => Number(x > 0)),
        [rows, columns],
        "uint8",
      );
    const [before, after] = [mask(1), mask(2)];
    const place = (x: Tensor): Tensor => DeviceTensor.from(x, "int8");
    const changes = [(x: Tensor) => x, place].map((on) => {
      const counted = new MaskChanges(2);
      counted.add(on(before), on(after));
      counted.add(on(after), on(after));
      return [counted.share(), counted.share()];
    });
    t.deepEqual(changes[0], changes[1]);
    const now = after.toArray();
    const expected = before.toArray().reduce((sum, kept, i) => sum + Number(kept !== now[i]), 0) / (2 * rows * columns);
    t.deepEqual(changes[1], [expected, expected]);
  }
  const [mask, counts] = [DeviceTensor.zeros([4, 8], "int8"), DeviceTensor.zeros([1, 64], "float32")];
  const wrong: [DeviceTensor, DeviceTensor, RegExp][] = [
    [DeviceTensor.zeros([4, 9], "int8"), counts, /before must have shape/],
    [DeviceTensor.zeros([4, 8]), counts, /must be int8/],
    [mask, DeviceTensor.zeros([1, 63], "float32"), /counts must have shape/],
  ];
  for (const [before, into, message] of wrong) t.throws(() => deviceCountMaskChanges(before, mask, into), { code: "INVALID_ARGUMENT", message });
});

test("AdamW takes the steps of the CPU, and none where a gradient is not finite", (t) => {
  // More tensors than a launch goes through, and one of several blocks.
  const many = Object.fromEntries(Array.from({ length: 60 }, (_, i) => [`vector${i}`, [1 + (i % 7)]]));
  const shapes: Record<string, number[]> = { matrix: [7, 30], empty: [0], large: [150, 130], ...many };
  const parameters = (upload: (x: Tensor) => Tensor): Map<string, Tensor> =>
    new Map(Object.entries(shapes).map(([name, shape], i) => [name, upload(randomTensor(shape, i))]));
  const cpu = parameters((x) => x);
  const gpu = parameters((x) => DeviceTensor.from(x, "float32"));
  const run = (map: Map<string, Tensor>, upload: (x: Tensor) => Tensor): number[] => {
    const optimizer = new AdamW(map, { weightDecay: 0.1 });
    const norms = [1, 2, NaN].map((factor, step) => {
      const gradients = new Map(
        [...map.values()].map((tensor, i) => [
          tensor,
          upload(
            Tensor.from(
              randomValues(tensor.size, 10 * step + i).map((v) => factor * v),
              tensor.shape,
            ),
          ),
        ]),
      );
      return optimizer.step((parameter) => gradients.get(parameter), 0.01, { maximumNorm: 3, gradientScale: 0.5 });
    });
    t.is(optimizer.steps, 2);
    optimizer.dispose();
    return norms;
  };
  const expected = run(cpu, (x) => x);
  const found = run(gpu, (x) => DeviceTensor.from(x, "float32"));
  found.slice(0, 2).forEach((norm, i) => t.true(Math.abs(norm / (expected[i] as number) - 1) < 1e-6));
  t.true(Number.isNaN(found[2]));
  for (const name of Object.keys(shapes))
    assertClose(t, (gpu.get(name) as Tensor).toArray(), (cpu.get(name) as Tensor).toArray(), 1e-6, name);
  const averages = [cpu, gpu].map((parameters) => {
    const average = new WeightAverage(parameters, 0.75);
    for (const parameter of parameters.values()) parameter.write(parameter.toArray().map((value) => 2 * value));
    average.update();
    return average.weights();
  });
  for (const [name, expected] of averages[0] as ReadonlyMap<string, Tensor>)
    assertClose(t, (averages[1]?.get(name) as Tensor).toArray(), expected.toArray(), 1e-6, `average of ${name}`);
});

test("a product of no inputs is zero", (t) => {
  const [left, right] = [DeviceTensor.zeros([3, 0]), DeviceTensor.zeros([0, 8])];
  for (const type of ["bfloat16", "float32"] as const)
    t.deepEqual(deviceProduct({ matrix: left }, { matrix: right }, 1, type).toArray(), new Float32Array(24));
});

test("what the GPU cannot train is refused", (t) => {
  const weight = DeviceTensor.zeros([8, 16], "float32");
  const x = DeviceTensor.zeros([2, 16]);
  const scale = DeviceTensor.zeros([8, 1], "float32");
  t.throws(() => fakeQuantize(weight, "uint4", { scale }), { code: "INVALID_ARGUMENT", message: /uint4 needs zero points/ });
  t.throws(() => fakeQuantize(weight, "int4", { scale, zeroPoint: scale }), {
    code: "INVALID_ARGUMENT",
    message: /int4 has no zero points/,
  });
  t.throws(() => fakeQuantize(weight, "uint4", { scale, zeroPoint: Tensor.zeros([8, 1]) }), {
    code: "INVALID_ARGUMENT",
    message: /zeroPoint is on the CPU/,
  });
  t.throws(() => fakeQuantize(weight, "uint4", { rule: { statistic: "mean" } }), {
    code: "INVALID_ARGUMENT",
    message: /by the range, not by a mean/,
  });
  t.throws(() => fakeQuantize(weight, "int4", { rule: { statistic: "threshold" } }), {
    code: "INVALID_ARGUMENT",
    message: /threshold is for ternary/,
  });
  t.throws(() => fakeQuantize(weight, "ternary", { rule: { statistic: "threshold" }, rounding: "noise" }), {
    code: "INVALID_ARGUMENT",
    message: /not "noise"/,
  });
  t.throws(() => fakeQuantize(weight, "nf4", { rounding: "stochastic" }), { code: "INVALID_ARGUMENT", message: /never stochastically/ });
  t.throws(() => fakeQuantize(weight, "int4", { mask: Tensor.zeros([8, 16], "uint8") }), {
    code: "INVALID_ARGUMENT",
    message: /mask is on the CPU/,
  });
  t.throws(() => fakeQuantize(weight, "int4", { mask: DeviceTensor.zeros([8, 8], "int8") }), {
    code: "INVALID_ARGUMENT",
    message: /int8 \(8, 16\)/,
  });
  t.throws(() => linear(x, weight, { bias: Tensor.zeros([8]) }), { code: "INVALID_ARGUMENT", message: /bias is on the CPU/ });
  t.throws(() => linear(x, DeviceTensor.zeros([8, 24], "float32")), { code: "INVALID_ARGUMENT", message: /do not multiply/ });
});
