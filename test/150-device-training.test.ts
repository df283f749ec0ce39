import { assertClose } from "./gpu.js";
import test from "ava";
import {
  AdamW,
  DeviceTensor,
  fakeQuantize,
  groupScales,
  linear,
  magnitudeMask,
  parseWeightSpec,
  Tape,
  Tensor,
  tidy,
  type FakeQuantizeOptions,
} from "../lib/index.js";
import { DeviceParameter } from "../lib/device/device_parameter.js";
import { prune } from "../lib/sparse/prune.js";
import { WeightPruning } from "../lib/train/weight_pruning.js";
import { deviceAddProduct, deviceProduct } from "../lib/device/training_operations.js";
import { deviceColumnProbability } from "../lib/device/softmax_divergence.js";
import { relativeMeanSquare } from "../lib/ops/mean_square.js";
import type { LinearOptions } from "../lib/ops/linear.js";
import { softmax } from "../lib/ops/softmax.js";
import { softmaxDivergence } from "../lib/ops/softmax_divergence.js";
import { randomTensor, randomValues } from "./gradient.js";

/** Values that bfloat16 holds, so that both devices compute with the same. */
const rounded = (shape: readonly number[], seed: number): Tensor => DeviceTensor.from(randomTensor(shape, seed)).toTensor();

/** The same tensors on either device; frames are bfloat16 on the GPU, the others float32. */
function onBoth<Names extends string>(
  tensors: Record<Names, Tensor>,
  frames: readonly Names[],
): { cpu: Record<Names, Tensor>; gpu: Record<Names, Tensor> } {
  const entries = Object.entries<Tensor>(tensors) as [Names, Tensor][];
  const gpu = entries.map(([name, tensor]) => [name, DeviceTensor.from(tensor, frames.includes(name) ? "bfloat16" : "float32")] as const);
  for (const [, tensor] of [...entries, ...gpu]) tensor.requiresGrad = true;
  return { cpu: tensors, gpu: Object.fromEntries(gpu) as unknown as Record<Names, Tensor> };
}

/** Output, then the gradients of all `inputs`, for a given gradient of the output. */
function outcome(inputs: Record<string, Tensor>, seed: Tensor, forward: () => Tensor): Record<string, Float32Array> {
  using tape = new Tape();
  const output = tape.record(forward);
  tape.backward(output, seed.clone()); // the tape releases it
  const gradients = Object.entries(inputs).map(([name, tensor]) => [name, (tape.gradientOf(tensor) as Tensor).toArray()] as const);
  return { output: output.toArray(), ...Object.fromEntries(gradients) };
}

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
      const sum = DeviceTensor.from(Tensor.from(new Float32Array(m * n).fill(1), [m, n]), "float32");
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

test("masks and fake quantization are those of the CPU, to the bit", (t) => {
  for (const spec of ["int4", "int8/g32", "midrise2", "nf4/g32", "int4+2:4", "int2/g32+1:4"]) {
    const weight = randomTensor([5, 72], 11);
    const onGpu = DeviceTensor.from(weight, "float32");
    for (const statistic of ["maximum", "edge"] as const) {
      const search = spec === "int4+2:4" || spec === "int8/g32" ? { search: { steps: 5, lowest: 0.4 } } : {};
      const options = { rule: { statistic, clip: 0.9, ...search }, clipGradient: spec === "int4", throughMask: spec === "int2/g32+1:4" };
      const gradient = randomTensor([5, 72], 12);
      for (const tensor of [weight, onGpu]) tensor.requiresGrad = true;
      const expected = outcome({ weight }, gradient, () => fakeQuantize(weight, spec, options));
      const found = outcome({ weight: onGpu }, DeviceTensor.from(gradient, "float32"), () => fakeQuantize(onGpu, spec, options));
      t.deepEqual(found["output"], expected["output"], `${spec} ${statistic}`);
      assertClose(t, found["weight"] as Float32Array, expected["weight"] as Float32Array, 1e-5, `gradient of ${spec} ${statistic}`);
    }
  }
  for (const spec of ["int4", "midrise2/g32", "nf4", "uint3/g32", "int4/g32/dq"]) {
    const weight = randomTensor([5, 72], 13);
    const { scale, zeroPoint } = groupScales(weight, spec, { rule: { clip: 0.7 } });
    const cpu: Record<string, Tensor> = { weight, scale, ...(zeroPoint && { zeroPoint }) };
    const gpu = Object.fromEntries(Object.entries(cpu).map(([name, tensor]) => [name, DeviceTensor.from(tensor, "float32")])) as typeof cpu;
    for (const tensor of [...Object.values(cpu), ...Object.values(gpu)]) tensor.requiresGrad = true;
    const options = { clipGradient: true, scaleGradientFactor: 0.3, scaleDecay: 0.2 };
    const gradient = randomTensor([5, 72], 14);
    const run = ({ weight: w, ...scales }: typeof cpu, upstream: Tensor): Record<string, Float32Array> =>
      outcome({ weight: w as Tensor, ...scales }, upstream, () => fakeQuantize(w as Tensor, spec, { ...options, ...scales }));
    const [expected, found] = [run(cpu, gradient), run(gpu, DeviceTensor.from(gradient, "float32"))];
    if (spec.includes("/dq")) assertClose(t, found["output"] as Float32Array, expected["output"] as Float32Array, 1e-6, spec);
    else t.deepEqual(found["output"], expected["output"], spec);
    for (const name of Object.keys(cpu))
      assertClose(t, found[name] as Float32Array, expected[name] as Float32Array, 1e-5, `gradient of the ${name} of ${spec}`);
  }
  const weight = randomTensor([3, 50], 4);
  const onGpu = DeviceTensor.from(weight, "float32");
  const [mask, gpuMask] = [magnitudeMask(weight, 2, 4), magnitudeMask(onGpu, 2, 4)];
  t.deepEqual([...gpuMask.toArray()], [...mask.toArray()]);
  const choices = { remainder: 0.25, straightThrough: true, decay: 0.1 };
  for (const tensor of [weight, onGpu]) tensor.requiresGrad = true;
  const gradient = randomTensor([3, 50], 5);
  const expected = outcome({ weight }, gradient, () => prune(weight, mask, choices));
  const found = outcome({ weight: onGpu }, DeviceTensor.from(gradient, "float32"), () => prune(onGpu, gpuMask, choices));
  t.deepEqual(found["output"], expected["output"]);
  assertClose(t, found["weight"] as Float32Array, expected["weight"] as Float32Array, 1e-6, "gradient of pruning");
});

/** Rows of random numbers, zeros, one value, two values in turn, one number among zeros, tiny and huge numbers. */
function awkwardWeight(columns: number, seed: number): Tensor {
  const random = randomValues(columns, seed);
  const rows: ((value: number, i: number) => number)[] = [
    (x) => x,
    () => 0,
    () => 0.5,
    (_, i) => (i % 2 ? 0.25 : -0.25),
    (x, i) => (i === 40 ? x : 0),
    (x) => 1e-41 * x,
    (x) => 1e30 * x,
    (x) => x * x,
  ];
  return Tensor.from(Float32Array.from(rows.flatMap((row) => [...random].map(row))), [rows.length, columns]);
}

/** Per row, whose magnitudes differ by far; rows as the CPU has them are those of `expected`. */
function assertRowsClose(
  t: Parameters<typeof assertClose>[0],
  found: Float32Array,
  expected: Float32Array,
  rows: number,
  tolerance: number,
  what: string,
): void {
  const columns = expected.length / rows;
  t.is(found.length, expected.length, what);
  for (let row = 0; row < rows; row++) {
    const [own, wanted] = [found, expected].map((values) => values.subarray(row * columns, (row + 1) * columns)) as [
      Float32Array,
      Float32Array,
    ];
    assertClose(t, own, wanted, tolerance, `${what}, row ${row}`);
  }
}

test("every way to quantize is the CPU's: scales, weights and gradients", (t) => {
  const cases: [spec: string, options: FakeQuantizeOptions][] = [
    ["uint2", {}],
    ["uint4/g32", { rule: { statistic: "edge", clip: 0.9 }, clipGradient: true }],
    ["uint8/g32+2:4", { rule: { powerOfTwo: true }, scaleDecay: 0.3 }],
    ["uint3+2:4", { rule: { search: { steps: 4, lowest: 0.4 } }, clipGradient: true, throughMask: true }],
    ["ternary", {}],
    ["ternary/g32+2:4", { clipGradient: true }],
    ["int1", { rule: { clip: 1.2 } }],
    ["int1/g32+2:4", { rule: { powerOfTwo: true } }],
    ["int4+2:4", { rule: { statistic: "mean", clip: 3 } }],
    ["ternary+2:4", { rule: { statistic: "threshold" } }],
    ["ternary/g32", { rule: { statistic: "threshold" }, stopScaleGradient: true }],
    ["int1+2:4", { rule: { statistic: "centred" } }],
    ["int1/g32", { rule: { statistic: "centred" }, scaleDecay: -0.2 }],
    ["int3/g32", { rule: { powerOfTwo: true, search: { steps: 3, lowest: 0.5 } } }],
    ["int4+2:4", { rounding: "stochastic", seed: 7 }],
    ["uint2/g32", { rounding: "stochastic", seed: 2 ** 40 + 1, clipGradient: true }],
    ["midrise2", { rounding: "stochastic", seed: 3 }],
    ["nf4/g32", { rounding: "noise", seed: 4 }],
    ["uint4+2:4", { rounding: "noise", seed: 5, clipGradient: true, rule: { clip: 0.5 } }],
    ["nf4/g32/dq+2:4", {}],
    ["int4/g32/dq", { rule: { statistic: "edge" }, clipGradient: true }],
    ["ternary/g32/dq+2:4", { scaleDecay: 0.1 }],
  ];
  for (const [index, [spec, options]] of cases.entries()) {
    tidy(() => {
      const weight = awkwardWeight(72, index);
      const { sparsity } = parseWeightSpec(spec);
      const kept =
        sparsity &&
        magnitudeMask(weight, sparsity.kept, sparsity.of)
          .toArray()
          .map((value, i) => (i < 32 ? 0 : value)); // nothing of the first group
      const masks = kept && {
        cpu: Tensor.from(Uint8Array.from(kept), weight.shape, "uint8"),
        gpu: DeviceTensor.from(Tensor.from(kept, weight.shape), "int8"),
      };
      const placed = DeviceTensor.from(weight, "float32");
      const gradient = randomTensor(weight.shape, 100 + index);
      const what = `${spec} ${JSON.stringify(options)}`;
      for (const tensor of [weight, placed]) tensor.requiresGrad = true;
      const scales: Record<string, Float32Array>[] = [];
      const receiveScales: FakeQuantizeOptions["receiveScales"] = ({ scale, zeroPoint }) =>
        scales.push({ scale: scale.toArray(), ...(zeroPoint && { zeroPoint: zeroPoint.toArray() }) });
      const expected = outcome({ weight }, gradient, () =>
        fakeQuantize(weight, spec, { ...options, receiveScales, ...(masks && { mask: masks.cpu }) }),
      );
      const found = outcome({ weight: placed }, DeviceTensor.from(gradient, "float32"), () =>
        fakeQuantize(placed, spec, { ...options, receiveScales, ...(masks && { mask: masks.gpu }) }),
      );
      const [wanted, own] = scales as [Record<string, Float32Array>, Record<string, Float32Array>];
      t.deepEqual(Object.keys(own), Object.keys(wanted), what);
      for (const name of Object.keys(wanted))
        assertRowsClose(t, own[name] as Float32Array, wanted[name] as Float32Array, 8, 1e-6, `${name} of ${what}`);
      assertRowsClose(t, found["weight"] as Float32Array, expected["weight"] as Float32Array, 8, 1e-5, `gradient of ${what}`);
      if (options.rounding === "noise" || spec.includes("/dq"))
        assertRowsClose(t, found["output"] as Float32Array, expected["output"] as Float32Array, 8, 1e-6, what);
      else t.deepEqual(found["output"], expected["output"], what);
    });
  }
});

test("what is no scale is never quantized in silence", (t) => {
  const weight = randomTensor([2, 64], 1);
  for (const wrong of [Infinity, NaN, 0, -1]) {
    tidy(() => {
      const scale = Tensor.from([0.1, 0.2, wrong, 0.3], [2, 2]);
      t.throws(() => fakeQuantize(weight, "int4/g32/dq", { scale }), {
        code: "INVALID_ARGUMENT",
        message: /scales are positive, finite numbers/,
      });
      // The GPU is not waited for: the loss says it.
      const found = fakeQuantize(DeviceTensor.from(weight, "float32"), "int4/g32/dq", {
        scale: DeviceTensor.from(scale, "float32"),
      }).toArray();
      t.true(found.every(Number.isNaN), `${wrong}`);
    });
  }
});

test("learned scores get the gradients, and choose the masks, that they do on the CPU", (t) => {
  const [values, gradient, scores] = [randomTensor([6, 20], 1), randomTensor([6, 20], 2), randomTensor([6, 20], 3)];
  for (const pattern of [{ kept: 2, of: 4 }, { share: 0.4 }]) {
    const run = (weight: Tensor, upstream: Tensor): Record<string, Float32Array> => {
      const network = { parameters: () => new Map([["w", weight]]), linearWeights: () => ["w"] };
      const pruning = new WeightPruning(network as never, new Map([["w", pattern]]), {
        score: "learned",
        schedule: { kind: "every-step", start: 0 },
      });
      const score = pruning.parameters().get("sparsity_score.w") as Tensor;
      for (const tensor of [weight, score]) tensor.requiresGrad = true;
      const mask = (step: number): Float32Array => {
        pruning.beforeStep(step);
        return Float32Array.from((pruning.masks.get("w") as Tensor).toArray());
      };
      const first = { score: score.toArray(), mask: mask(0) };
      const gradients = outcome({ weight, scoreGradient: score }, upstream, () => pruning.transformWeight("w", weight));
      score.write(scores.toArray()); // half of them below zero
      const results = { ...first, ...gradients, later: mask(1) };
      pruning.dispose();
      return results;
    };
    const [expected, found] = [run(values, gradient), run(DeviceParameter.place(values), DeviceTensor.from(gradient, "float32"))];
    t.notDeepEqual(expected["later"], expected["mask"]);
    t.deepEqual(found, expected, JSON.stringify(pattern));
  }
});

test("the divergence from a teacher, hidden and in logits, is that of the CPU", (t) => {
  for (const [frames, columns, temperature] of [
    [5, 31, 1],
    [9, 70, 2.5],
  ] as const) {
    const both = onBoth<"student" | "teacher">({ student: rounded([frames, columns], 1), teacher: rounded([frames, columns], 2) }, [
      "student",
      "teacher",
    ]);
    const weights = Float32Array.from({ length: frames }, (_, row) => row % 3); // some rows take no part
    for (const measure of [
      ({ student, teacher }: typeof both.cpu) => softmaxDivergence(student, teacher, { temperature, weights }),
      ({ student, teacher }: typeof both.cpu) => softmaxDivergence(student, teacher, { temperature }),
      ({ student, teacher }: typeof both.cpu) => relativeMeanSquare(student, teacher),
    ]) {
      const run = (inputs: typeof both.cpu, upload: (x: Tensor) => Tensor): Record<string, Float32Array> =>
        outcome({ student: inputs.student }, upload(Tensor.from([3])), () => measure(inputs));
      const [expected, found] = [run(both.cpu, (x) => x), run(both.gpu, (x) => DeviceTensor.from(x, "float32"))];
      for (const name of ["output", "student"])
        assertClose(t, found[name] as Float32Array, expected[name] as Float32Array, 1e-2, `${name} of ${frames} rows`);
    }
    const probabilities = softmax(both.cpu.teacher)
      .toArray()
      .filter((_, i) => i % columns === 3);
    assertClose(t, deviceColumnProbability(both.gpu.teacher as DeviceTensor, 3).toArray(), probabilities, 1e-5, "probability of a column");
  }
  const [student, other] = [DeviceTensor.zeros([4, 8]), DeviceTensor.zeros([4, 9])];
  t.throws(() => softmaxDivergence(student, other), { code: "INVALID_ARGUMENT", message: /teacher/ });
  t.throws(() => softmaxDivergence(student, Tensor.zeros([4, 8])), { code: "INVALID_ARGUMENT", message: /teacher is on the CPU/ });
  t.throws(() => deviceColumnProbability(student, 8), { code: "INVALID_ARGUMENT", message: /column/ });
});

test("AdamW takes the steps of the CPU, and none where a gradient is not finite", (t) => {
  const shapes = { matrix: [7, 30], vector: [5] };
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
