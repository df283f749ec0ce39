import test from "ava";
import {
  availableInstructionSets,
  fakeQuantize,
  groupScales,
  magnitudeMask,
  packWeight,
  parseWeightSpec,
  setInstructionSet,
  Tensor,
  unpackWeight,
  type FakeQuantizeOptions,
  type ScaleRule,
} from "../lib/operations.js";
import { randomTensor } from "./gradient.js";
import { onEveryInstructionSet } from "./instruction_sets.js";
import { quantizerGradients } from "./quantizer_gradients.js";

test.afterEach.always(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

const rules: readonly ScaleRule[] = [
  { statistic: "maximum" },
  { statistic: "edge" },
  { clip: 0.6 },
  { powerOfTwo: true },
  { statistic: "edge", clip: 0.8, powerOfTwo: true },
  { search: { steps: 5, lowest: 0.4 } },
];
const specs = [
  "int8",
  "int6",
  "int5",
  "int4",
  "int3/g32",
  "int2",
  "uint4",
  "uint2/g64+2:4",
  "midrise2",
  "midrise3+2:4",
  "ternary",
  "int1/g128",
  "nf4/g64",
  "int4+1:4",
];
const masked = (weight: Tensor, spec: string): Tensor | undefined => {
  const { sparsity } = parseWeightSpec(spec);
  return sparsity && magnitudeMask(weight, sparsity.kept, sparsity.of);
};
const bits = (tensor: Tensor): Int32Array => new Int32Array(tensor.toArray().buffer);
test.serial("whatever the rule of scales, training computes with what packing packs, to the bit", (t) => {
  onEveryInstructionSet((set) => {
    for (const [index, rule] of rules.entries()) {
      for (const spec of specs) {
        const weight = randomTensor([3, 132], index);
        const mask = masked(weight, spec);
        const scales = groupScales(weight, spec, { mask, rule });
        const packed = unpackWeight(packWeight(weight, spec, mask, scales)).weight;
        t.deepEqual(bits(fakeQuantize(weight, spec, { mask, rule })), bits(packed), `${set} ${spec} ${JSON.stringify(rule)}`);
        t.deepEqual(bits(fakeQuantize(weight, spec, { mask, ...scales })), bits(packed));
      }
    }
  });
});

test.serial("scales are what the rules say", (t) => {
  const values = [0.5, -3, 2, 0.25, -1, 0.125];
  const scaleOf = (spec: string, rule: ScaleRule): number =>
    groupScales(Tensor.from(values, [1, 6]), spec, { rule }).scale.toArray()[0] as number;
  const near = (found: number, wanted: number, name: string): boolean => t.true(Math.abs(found - wanted) < 1e-6, `${name}: ${found}`);
  onEveryInstructionSet(() => {
    const mean = values.reduce((sum, x) => sum + Math.abs(x), 0) / 6;
    near(scaleOf("int4", {}), 3 / 7, "format");
    near(scaleOf("ternary", {}), mean, "format of ternary");
    near(scaleOf("ternary", { statistic: "maximum" }), 3, "maximum");
    near(scaleOf("int4", { statistic: "edge" }), 3 / 7.5, "edge");
    near(scaleOf("int2", { statistic: "edge" }), 3 / 1.5, "edge of int2");
    near(scaleOf("midrise2", { statistic: "edge" }), 3 / 4, "edge of midrise2");
    near(scaleOf("uint4", { statistic: "edge" }), 5 / 16, "edge of uint4");
    near(scaleOf("int4", { statistic: "mean" }), mean, "mean");
    near(scaleOf("int4", { clip: 0.5 }), 1.5 / 7, "clip");
    near(scaleOf("int4", { powerOfTwo: true }), 0.5, "power of two");
    near(scaleOf("int1", { statistic: "centred" }), values.reduce((sum, x) => sum + Math.abs(x + 1.125 / 6), 0) / 6, "centred");
    near(scaleOf("ternary", { statistic: "threshold" }), (3 + 2 + 1) / 3, "threshold"); // 0.7 mean |w| is 0.802
    t.deepEqual(
      [...fakeQuantize(Tensor.from(values, [1, 6]), "ternary", { rule: { statistic: "threshold" } }).toArray()],
      [0, -2, 2, 0, -2, 0],
    );
    const centred = fakeQuantize(Tensor.from([1, 2, 3, 6], [1, 4]), "int1", { rule: { statistic: "centred" } });
    t.deepEqual([...centred.toArray()], [-1.5, -1.5, -1.5, 1.5]);
    t.is(groupScales(Tensor.zeros([1, 8]), "int4", { rule: { clip: 0.5, powerOfTwo: true } }).scale.toArray()[0], 1);
  });
});

test.serial("a search finds no larger squared error than any of its values", (t) => {
  const weight = randomTensor([4, 128], 9);
  const error = (spec: string, rule: ScaleRule): number => {
    const values = weight.toArray();
    return fakeQuantize(weight, spec, { rule })
      .toArray()
      .reduce((sum, x, i) => sum + (x - (values[i] as number)) ** 2, 0);
  };
  onEveryInstructionSet((set) => {
    for (const spec of ["int2", "int4/g32", "uint2", "midrise2"]) {
      const found = error(spec, { search: { steps: 8, lowest: 0.3 } });
      for (let step = 0; step < 8; step++) {
        const one = error(spec, { clip: 1 - 0.1 * step });
        t.true(found <= one * (1 + 1e-5), `${set} ${spec}: ${found} against ${one}`);
      }
    }
    t.true(error("int2", { search: { steps: 15, lowest: 0.3 } }) < 0.5 * error("int2", {}), "the scale of the maximum makes int2 poor");
  });
});

test.serial("stochastic rounding is right on average, noise is as wide as a step", (t) => {
  const weight = Tensor.from([...Array<number>(4000).fill(0.3), 1], [1, 4001]);
  const scale = Tensor.from([1], [1, 1]);
  onEveryInstructionSet((set) => {
    const rounded = fakeQuantize(weight, "int4", { scale, rounding: "stochastic", seed: 7 }).toArray();
    t.true(rounded.every((x) => x === 0 || x === 1));
    const mean = rounded.reduce((sum, x) => sum + x, 0) / rounded.length;
    t.true(Math.abs(mean - 0.3) < 0.03, `${set}: ${mean}`);
    const odd = fakeQuantize(weight, "midrise2", { scale, rounding: "stochastic", seed: 7 }).toArray();
    t.true(odd.every((x) => x === -1 || x === 1));
    t.true(Math.abs(odd.reduce((sum, x) => sum + x, 0) / odd.length - 0.3) < 0.05);
    const noisy = fakeQuantize(weight, "int4", { scale, rounding: "noise", seed: 8 }).toArray().subarray(0, 4000);
    t.true(noisy.every((x) => x >= -0.2 - 1e-6 && x < 0.8 + 1e-6));
    t.true(Math.abs(noisy.reduce((sum, x) => sum + x, 0) / 4000 - 0.3) < 0.02);
    t.notDeepEqual(fakeQuantize(weight, "int4", { scale, rounding: "noise", seed: 9 }).toArray().subarray(0, 4000), noisy);
    // The scale gets the noise: d(w + noise * scale) / d scale.
    const ones = Tensor.from(new Float32Array(4001).fill(1), [1, 4001]);
    const found = quantizerGradients(weight, ones, "int4", { scale, rounding: "noise", seed: 8 }).scale[0] as number;
    t.true(
      Math.abs(
        found -
          fakeQuantize(weight, "int4", { scale, rounding: "noise", seed: 8 })
            .toArray()
            .reduce((sum, x, i) => sum + x - (i < 4000 ? 0.3 : 1), 0),
      ) < 0.05,
    );
  });
});

test.serial("instruction sets agree, and pruned weights get a gradient where asked", (t) => {
  const weight = randomTensor([5, 130], 1);
  const upstream = randomTensor([5, 130], 2);
  const optionSets: FakeQuantizeOptions[] = [
    { clipGradient: true, rule: { clip: 0.5 } },
    { rounding: "stochastic", seed: 3 },
    { rounding: "noise", seed: 3 },
    { throughMask: true },
    { rule: { search: { steps: 4, lowest: 0.4 } } },
    { scaleDecay: 0.1 },
  ];
  for (const spec of ["int4+2:4", "uint3+2:4", "midrise2/g32+2:4", "int3/g64"]) {
    const mask = masked(weight, spec);
    for (const options of optionSets) {
      setInstructionSet("reference");
      const wanted = quantizerGradients(weight, upstream, spec, { ...options, mask }).weight;
      const output = fakeQuantize(weight, spec, { ...options, mask }).toArray();
      onEveryInstructionSet((set) => {
        fakeQuantize(weight, spec, { ...options, mask })
          .toArray()
          .forEach((value, i) =>
            t.true(Math.abs(value - (output[i] as number)) < 1e-6, `${set} ${spec} ${JSON.stringify(options)} [${i}]`),
          );
        quantizerGradients(weight, upstream, spec, { ...options, mask }).weight.forEach((value, i) =>
          t.true(
            Math.abs(value - (wanted[i] as number)) <= 2e-5 * Math.max(1, Math.abs(value)),
            `${set} ${spec} ${JSON.stringify(options)} [${i}]`,
          ),
        );
      });
    }
  }
  const mask = magnitudeMask(weight, 2, 4);
  const through = quantizerGradients(weight, upstream, "int4+2:4", { mask, throughMask: true, stopScaleGradient: true }).weight;
  t.deepEqual(through, upstream.toArray());
});

test("misuse is a coded error", (t) => {
  const weight = randomTensor([2, 8], 1);
  const invalid = (body: () => unknown, message: RegExp): void => void t.throws(body, { code: "INVALID_ARGUMENT", message });
  invalid(() => groupScales(weight, "float32"), /float32 has no scales/);
  invalid(() => groupScales(weight, "int4", { rule: { statistic: "threshold" } }), /threshold is for ternary, not for int4/);
  invalid(() => groupScales(weight, "ternary", { rule: { statistic: "centred" } }), /centred is for int1/);
  invalid(() => groupScales(weight, "uint4", { rule: { statistic: "mean" } }), /measured by the range/);
  invalid(() => groupScales(weight, "int4", { rule: { clip: 0 } }), /clip/);
  invalid(() => groupScales(weight, "int4", { rule: { statistic: "median" as "mean" } }), /"median" is no statistic/);
  invalid(() => fakeQuantize(weight, "nf4", { rounding: "stochastic" }), /never stochastically/);
  invalid(() => fakeQuantize(weight, "ternary", { rule: { statistic: "threshold" }, rounding: "noise" }), /threshold/);
  invalid(() => fakeQuantize(weight, "uint4", { scale: Tensor.from([1, 1], [2, 1]) }), /uint4 needs zero points/);
  invalid(() => fakeQuantize(weight, "int4", { scale: Tensor.from([1, 1], [1, 2]) }), /scale/);
  const one = Tensor.from([1, 1], [2, 1]);
  invalid(() => packWeight(weight, "int4", undefined, { scale: Tensor.from([1, 0], [2, 1]) }), /not positive and finite/);
  invalid(() => packWeight(weight, "float32", undefined, { scale: one }), /scale/);
  invalid(() => packWeight(weight, "uint4", undefined, { scale: one }), /uint4 takes scales and zero points, or neither/);
  invalid(() => packWeight(weight, "int4", undefined, { scale: one, zeroPoint: one }), /zeroPoint|int4 takes scales alone/);
});
