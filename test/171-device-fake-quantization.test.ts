/** Masks, fake quantization and learned scores of training on the GPU. */
import { assertClose } from "./gpu.js";
import test from "ava";
import {
  DeviceTensor,
  fakeQuantize,
  groupScales,
  linear,
  magnitudeMask,
  parseWeightSpec,
  Recording,
  Tape,
  Tensor,
  tidy,
  type FakeQuantizeOptions,
} from "../lib/operations.js";
import { DeviceParameter } from "../lib/device/device_parameter.js";
import { prune } from "../lib/sparse/prune.js";
import { WeightPruning } from "../lib/train/weight_pruning.js";
import { randomTensor, randomValues } from "./gradient.js";
import { outcome } from "./both_devices.js";

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
    ["int4+2:4", { stopScaleGradient: true }],
    ["int2/g32+2:4", { stopScaleGradient: true, throughMask: true }],
    ["uint3+2:4", { stopScaleGradient: true, clipGradient: true, rule: { clip: 0.6 } }],
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

test("weights in bfloat16 are those of float32, rounded, and have the same gradients", (t) => {
  for (const spec of ["int4+2:4", "uint4/g32", "nf4/g32/dq", "ternary"]) {
    for (const given of [false, true]) {
      tidy(() => {
        const weight = DeviceTensor.from(randomTensor([7, 76], 21), "float32");
        weight.requiresGrad = true;
        const gradient = DeviceTensor.from(randomTensor([7, 76], 22), "float32");
        const scales = given ? groupScales(weight, spec) : {};
        const run = (type: "float32" | "bfloat16"): Record<string, Float32Array> =>
          outcome({ weight }, gradient, () => {
            const output = fakeQuantize(weight, spec, { ...scales, type });
            t.is((output as DeviceTensor).type, type);
            return output;
          });
        const [wide, narrow] = [run("float32"), run("bfloat16")];
        const rounded = DeviceTensor.from(Tensor.from(wide["output"] as Float32Array, weight.shape)).toArray();
        t.deepEqual(narrow["output"], rounded, spec);
        t.deepEqual(narrow["weight"], wide["weight"], `gradient of ${spec}`);
      });
    }
  }
});

/** What a recording of `body` holds; it is run once before, for what is made at first. */
function launchesOf(body: () => unknown): number {
  const pass = (): void => tidy(() => void body());
  pass();
  using recording = new Recording(pass);
  return recording.operations;
}

test("a quantized weight takes one launch forward, and at most one backward", (t) => {
  const [x, weight, gradient] = [randomTensor([9, 64], 1), randomTensor([32, 64], 2), randomTensor([9, 32], 3)];
  const [frames, master, upstream] = [DeviceTensor.from(x), DeviceTensor.from(weight, "float32"), DeviceTensor.from(gradient)];
  master.requiresGrad = true;
  const mask = magnitudeMask(master, 2, 4);
  const step = (options: FakeQuantizeOptions | undefined): number =>
    launchesOf(() => {
      using tape = new Tape();
      const quantized = (): Tensor => (options ? fakeQuantize(master, "int4+2:4", { ...options, mask, type: "bfloat16" }) : master);
      tape.backward(
        tape.record(() => linear(frames, quantized())),
        upstream.clone(),
      );
    });
  const plain = step(undefined) - 1; // without rounding the weight to bfloat16
  t.is(step({}), plain + 2);
  t.is(step({ stopScaleGradient: true }), plain + 2);
  t.is(step({ stopScaleGradient: true, throughMask: true }), plain + 1);
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
