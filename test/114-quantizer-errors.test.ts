/**
 * What the quantizers lose on normally distributed weights, against figures that are known from elsewhere: optimal quantizers of Max
 * (1960), the moments of the half-normal distribution, and simulations in NumPy of the rules of google/praxis and google/aqt.
 */
import test from "ava";
import { fakeQuantize, magnitudeMask, parseWeightSpec, Tensor, tidy, type ScaleRule } from "../lib/operations.js";
import { RandomStream } from "../lib/ops/random_stream.js";

const [rows, columns] = [48, 1024];
const random = new RandomStream(5);
const normal = (): number => Math.sqrt(-2 * Math.log(1 - random.uniform())) * Math.cos(2 * Math.PI * random.uniform());
const weight = Tensor.from(Float32Array.from({ length: rows * columns }, normal), [rows, columns]);
const power = weight.toArray().reduce((sum, x) => sum + x * x, 0);

/** Squared error relative to the squares of the weights. */
function loss(spec: string, rule: ScaleRule = {}): number {
  return tidy(() => {
    const { sparsity } = parseWeightSpec(spec);
    const mask = sparsity && magnitudeMask(weight, sparsity.kept, sparsity.of);
    const values = weight.toArray();
    return (
      fakeQuantize(weight, spec, { mask, rule })
        .toArray()
        .reduce((sum, x, i) => sum + (x - (values[i] as number)) ** 2, 0) / power
    );
  });
}

const search = { steps: 29, lowest: 0.16 };
const cases: [name: string, spec: string, rule: ScaleRule, wanted: number, tolerance: number][] = [
  ["praxis: the largest weight is the highest level", "int4", {}, 0.02, 0.002],
  ["the same with two bits: -1, 0 and 1 times the largest", "int2", {}, 0.75, 0.02],
  ["aqt: the largest weight is the edge of the last level", "int4", { statistic: "edge" }, 0.018, 0.002],
  ["the same with two bits", "int2", { statistic: "edge" }, 0.43, 0.02],
  ["three levels at their best: Max 1960", "int2", { search }, 0.19, 0.01],
  ["four levels at their best: Max 1960", "midrise2", { search }, 0.119, 0.005],
  ["four levels from least to largest weight", "uint2", {}, 0.4, 0.03],
  ["four levels at their best, asymmetric", "uint2", { search }, 0.122, 0.006],
  ["fifteen levels at their best", "int4", { search }, 0.013, 0.001],
  ["seven levels at their best", "int3", { search }, 0.048, 0.003],
  ["one bit: 1 - 2 / pi", "int1", {}, 1 - 2 / Math.PI, 0.003],
  ["one bit, a mean for each 128 inputs", "int1/g128", {}, 0.361, 0.004],
  ["ternary weight networks", "ternary/g128", { statistic: "threshold" }, 0.19, 0.006],
  ["BitNet: rounded by the mean", "ternary/g128", {}, 0.261, 0.006],
  ["the mask of 2:4", "float32+2:4", {}, 0.132, 0.004],
  ["the mask of 1:4", "float32+1:4", {}, 0.382, 0.006],
  ["int4 on 2:4", "int4+2:4", { search }, 0.14, 0.004],
  ["four levels without zero on 2:4", "midrise2/g128+2:4", { search }, 0.203, 0.006],
  ["the sign on 2:4", "int1/g128+2:4", {}, 0.292, 0.006],
];

for (const [name, spec, rule, wanted, tolerance] of cases) {
  test.serial(name, (t) => {
    const found = loss(spec, rule);
    t.true(Math.abs(found - wanted) < tolerance, `${spec}: ${found}, not ${wanted}`);
  });
}
