import test from "ava";
import { availableInstructionSets, fakeQuantize, groupScales, setInstructionSet, Tensor, type ScaleRule } from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";
import { onEveryInstructionSet } from "./instruction_sets.js";
import { quantizerGradients } from "./quantizer_gradients.js";

test.afterEach.always(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

test.serial("a learned scale has the gradient of LSQ, a learned zero point that of LSQ+", (t) => {
  const weight = randomTensor([2, 40], 3);
  const upstream = randomTensor([2, 40], 4);
  onEveryInstructionSet((set) => {
    for (const [spec, low, high, zero] of [
      ["int4", -7, 7, 0],
      ["uint3", 0, 7, 3.4],
      ["int2/g32", -1, 1, 0],
    ] as const) {
      const groups = spec === "int2/g32" ? 2 : 1;
      const scale = Tensor.from(Array<number>(2 * groups).fill(0.11), [2, groups]);
      const zeroPoint = zero ? Tensor.from(Array<number>(2 * groups).fill(zero), [2, groups]) : undefined;
      const found = quantizerGradients(weight, upstream, spec, {
        scale,
        ...(zeroPoint ? { zeroPoint } : {}),
        clipGradient: true,
        scaleGradientFactor: 0.5,
      });
      const [w, g] = [weight.toArray(), upstream.toArray()];
      const wanted = { scale: new Float32Array(2 * groups), zeroPoint: new Float32Array(zero ? 2 : 0) };
      w.forEach((x, i) => {
        const group = Math.floor(i / 40) * groups + (groups > 1 ? Math.floor((i % 40) / 32) : 0);
        const place = x / 0.11 + zero;
        const beyond = place > high + 0.5 || place < low - 0.5;
        const level = Math.min(high, Math.max(low, Math.round(place)));
        (wanted.scale[group] as number) += 0.5 * (g[i] as number) * (level - zero - (beyond ? 0 : x / 0.11));
        if (zero && beyond) (wanted.zeroPoint[group] as number) -= 0.5 * (g[i] as number) * 0.11;
        t.is((found.weight[i] as number) + 0, (beyond ? 0 : g[i]) as number, `${set} ${spec} [${i}]`);
      });
      t.true(
        w.some((x) => Math.abs(x) > 0.11 * 8),
        "some weights are beyond",
      );
      for (const part of ["scale", "zeroPoint"] as const) {
        found[part].forEach((value, i) =>
          t.true(Math.abs(value - (wanted[part][i] as number)) < 1e-4, `${set} ${spec} ${part} ${value} ${wanted[part][i]}`),
        );
        t.is(found[part].length, wanted[part].length);
      }
    }
  });
});

test.serial("gradients through scales are derivatives of the rules", (t) => {
  const cases: [string, ScaleRule][] = [
    ["int4", { statistic: "edge" }],
    ["int4", { clip: 0.7 }],
    ["int3", { statistic: "mean" }],
    ["uint4", { statistic: "edge" }],
    ["uint3", { clip: 0.8 }],
    ["ternary", { statistic: "maximum" }],
    ["ternary", { statistic: "threshold" }],
    ["int1", { statistic: "centred" }],
    ["midrise2", { statistic: "edge" }],
  ];
  const values = [...randomValues(24, 5)];
  const upstream = randomTensor([1, 24], 6);
  const g = upstream.toArray();
  onEveryInstructionSet((set) => {
    for (const [spec, rule] of cases) {
      // fakeQuantize(w) = scale * (level - zero point); with levels + errors e = level - zero point - w / scale held, w + scale * e.
      const weight = Tensor.from(values, [1, 24]);
      const scaleOf = (w: number[]): number =>
        groupScales(Tensor.from(Float32Array.from(w), [1, 24]), spec, { rule }).scale.toArray()[0] as number;
      const scale = scaleOf(values);
      const errors = [...fakeQuantize(weight, spec, { rule }).toArray()].map((x, i) => (x - (values[i] as number)) / scale);
      const surrogate = (w: number[]): number => {
        const moved = scaleOf(w);
        return w.reduce((sum, x, i) => sum + (g[i] as number) * (x + moved * (errors[i] as number)), 0);
      };
      const found = quantizerGradients(weight, upstream, spec, { rule }).weight;
      values.forEach((_, i) => {
        const moved = (by: number): number => surrogate(values.map((x, j) => (i === j ? x + by : x)));
        const numeric = (moved(1e-3) - moved(-1e-3)) / 2e-3;
        t.true(
          Math.abs(numeric - (found[i] as number)) < 5e-3,
          `${set} ${spec} ${JSON.stringify(rule)} [${i}]: ${found[i]} against ${numeric}`,
        );
      });
    }
  });
});

test.serial("a decay of scales draws in the weights that they are measured of, and no others", (t) => {
  const weight = Tensor.from([0.5, -3, 2, 1, 0.25, 1, -0.5, 0.125], [2, 4]);
  const upstream = randomTensor([2, 4], 8);
  onEveryInstructionSet((set) => {
    const [without, decayed] = [0, 0.7].map((scaleDecay) => quantizerGradients(weight, upstream, "int4", { scaleDecay }).weight) as [
      Float32Array,
      Float32Array,
    ];
    // The largest weight of a row is seven scales.
    const wanted = [0, -0.1, 0, 0, 0, 0.1, 0, 0];
    wanted.forEach((value, i) => t.true(Math.abs((decayed[i] as number) - (without[i] as number) - value) < 1e-6, `${set} [${i}]`));
    t.deepEqual(quantizerGradients(weight, upstream, "int4", { scaleDecay: 0.7, stopScaleGradient: true }).weight, upstream.toArray());
  });
});
