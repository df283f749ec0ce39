import test from "ava";
import {
  availableInstructionSets,
  fakeQuantize,
  isPruned,
  magnitudeMask,
  maskFrozenFrom,
  type MaskSchedule,
  packWeight,
  checkMaskSchedule,
  recomputesMask,
  setInstructionSet,
  Tape,
  Tensor,
  unpackWeight,
} from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";

const specs = [
  "int8",
  "int4",
  "int3",
  "int2",
  "int4/g32",
  "int2/g64",
  "int4+2:4",
  "int8+1:4",
  "int2/g32+3:5",
  "2:4",
  "int6",
  "int1",
  "int1+2:4",
  "uint4",
  "uint3/g64+2:4",
  "midrise8",
  "midrise2+2:4",
  "ternary",
  "ternary/g128+1:4",
  "nf4/g64",
  "nf4+2:4",
];
const shapes = [
  [1, 1],
  [3, 7],
  [5, 100],
  [4, 64, 1],
  [6, 20, 5],
  [300, 130],
];

test.afterEach.always(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

test.serial("the forward pass is what packing makes of the weight, to the bit", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const spec of specs) {
      for (const [index, shape] of shapes.entries()) {
        const weight = randomTensor(shape, index + 5);
        const faked = fakeQuantize(weight, spec);
        t.deepEqual(faked.shape, shape);
        const packed = unpackWeight(packWeight(weight, spec)).weight;
        const bits = (tensor: Tensor): Int32Array => new Int32Array(tensor.toArray().buffer);
        t.deepEqual(bits(faked), bits(packed), `${set} ${spec} (${shape})`);
      }
    }
  }
});

test.serial("a mask that is given decides, also with a dense spec", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const weight = Tensor.from([100, 2, 3, 7], [1, 4]);
    const mask = Tensor.from([0, 1, 255, 1], [1, 4], "uint8");
    t.deepEqual([...fakeQuantize(weight, "int4", { mask }).toArray()], [0, 2, 3, 7]);
    t.deepEqual([...fakeQuantize(weight, "float32", { mask }).toArray()], [0, 2, 3, 7]);
    t.is(fakeQuantize(weight, "float32"), weight);
  }
});

/** Gradients of sum(upstream * fakeQuantize(weight)). */
function gradients(weight: Tensor, upstream: Tensor, spec: string, options: Parameters<typeof fakeQuantize>[2] = {}): Float32Array {
  using tape = new Tape();
  weight.requiresGrad = true;
  tape.backward(
    tape.record(() => fakeQuantize(weight, spec, options)),
    upstream.clone(),
  );
  return (tape.gradientOf(weight) as Tensor).toArray();
}

test.serial("gradients are those of the straight-through surrogate", (t) => {
  // With the rounding error r - u held constant, y_i = scale(w) * (w_i / scale(w) + (r_i - u_i)) = w_i + scale(w) * (r_i - u_i)
  // is differentiable: the derivative of the scale with respect to the largest weight is found by differences.
  const kept = (values: number[], mask: boolean[]): number[] => values.filter((_, i) => mask[i]);
  const largest =
    (limit: number) =>
    (w: number[], mask: boolean[]): number =>
      Math.max(...kept(w, mask).map(Math.abs)) / limit;
  const mean = (w: number[], mask: boolean[]): number => kept(w, mask).reduce((sum, x) => sum + Math.abs(x), 0) / kept(w, mask).length;
  const range =
    (limit: number) =>
    (w: number[], mask: boolean[]): number =>
      (Math.max(...kept(w, mask)) - Math.min(...kept(w, mask))) / limit;
  const scales: Record<string, (w: number[], mask: boolean[]) => number> = {
    int8: largest(127),
    int4: largest(7),
    "int4+2:4": largest(7),
    "int2+1:4": largest(1),
    nf4: largest(127),
    "midrise2+2:4": largest(3),
    ternary: mean,
    "int1+2:4": mean,
    uint4: range(15),
    "uint3+2:4": range(7),
  };
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const [spec, scaleOf] of Object.entries(scales)) {
      const [rows, columns] = [3, 37];
      const weight = randomTensor([rows, columns], 11);
      const upstream = randomTensor([rows, columns], 12);
      const values = [...weight.toArray()];
      const g = upstream.toArray();
      const mask = spec.includes("+") ? magnitudeMask(weight, Number(spec.at(-3)), 4).toArray() : new Uint8Array(values.length).fill(1);
      const rowOf = (w: number[], row: number): [number[], boolean[]] => [
        w.slice(row * columns, (row + 1) * columns),
        [...mask.subarray(row * columns, (row + 1) * columns)].map(Boolean),
      ];
      const faked = fakeQuantize(weight, spec).toArray();
      const errors = values.map((w, i) => ((faked[i] as number) - w) / scaleOf(...rowOf(values, Math.floor(i / columns))));
      const surrogate = (w: number[], row: number): number => {
        let sum = 0;
        for (let i = row * columns; i < (row + 1) * columns; i++) {
          if (mask[i]) sum += (g[i] as number) * ((w[i] as number) + scaleOf(...rowOf(w, row)) * (errors[i] as number));
        }
        return sum;
      };
      const analytic = gradients(weight, upstream, spec);
      const constant = gradients(weight, upstream, spec, { stopScaleGradient: true });
      for (let i = 0; i < values.length; i++) {
        const row = Math.floor(i / columns);
        const step = 1e-4;
        const moved = (by: number): number =>
          surrogate(
            values.map((w, j) => (i === j ? w + by : w)),
            row,
          );
        const numeric = (moved(step) - moved(-step)) / (2 * step);
        t.true(Math.abs(numeric - (analytic[i] as number)) < 1e-4, `${set} ${spec} [${i}]: ${analytic[i]} against ${numeric}`);
        t.is((constant[i] as number) + 0, (mask[i] ? g[i] : 0) as number); // + 0: -0 is fine
      }
    }
  }
});

test.serial("a convolution gets the gradients of its matrix (out, kernel * in)", (t) => {
  const [out, inputs, kernel] = [3, 8, 5];
  const weight = randomTensor([out, inputs, kernel], 1);
  const upstream = randomTensor([out, inputs, kernel], 2);
  const byTap = (tensor: Tensor): Tensor => {
    const values = tensor.toArray();
    const at = (o: number, k: number, i: number): number => values[(o * inputs + i) * kernel + k] as number;
    const order = [...Array(out).keys()].flatMap((o) =>
      [...Array(kernel).keys()].flatMap((k) => [...Array(inputs).keys()].map((i) => at(o, k, i))),
    );
    return Tensor.from(order, [out, kernel * inputs]);
  };
  for (const spec of ["int4", "int4+2:4", "int4/g32"]) {
    const found = Tensor.from(gradients(weight, upstream, spec), weight.shape);
    t.deepEqual(byTap(found).toArray(), gradients(byTap(weight), byTap(upstream), spec), spec);
    t.deepEqual(byTap(fakeQuantize(weight, spec)).toArray(), fakeQuantize(byTap(weight), spec).toArray(), spec);
  }
});

test.serial("instruction sets agree on gradients, with groups, ties, zeros and masks", (t) => {
  for (const spec of specs) {
    const values = randomValues(6 * 130, 3).map((value, i) => (i < 130 ? 0 : i < 260 ? 0.5 : value));
    const weight = Tensor.from(values, [6, 130, 1]);
    const upstream = randomTensor([6, 130, 1], 4);
    setInstructionSet("reference");
    const expected = gradients(weight, upstream, spec);
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      const actual = gradients(weight, upstream, spec);
      actual.forEach((value, i) =>
        t.true(Math.abs(value - (expected[i] as number)) <= 1e-5 * Math.max(1, Math.abs(value)), `${set} ${spec} [${i}]`),
      );
    }
  }
});

test("misuse is a coded error", (t) => {
  const weight = Tensor.zeros([2, 8]);
  t.throws(() => fakeQuantize(weight, "int7"), { code: "UNSUPPORTED_SPEC" });
  t.throws(() => fakeQuantize(weight, "int4", { mask: Tensor.zeros([2, 4], "uint8") }), { code: "INVALID_ARGUMENT" });
  t.throws(() => fakeQuantize(weight, "int4", { mask: Tensor.zeros([2, 8]) }), { code: "INVALID_ARGUMENT", message: /uint8/ });
  t.throws(() => fakeQuantize(Tensor.zeros([2, 8, 3, 1]), "int4"), { code: "INVALID_ARGUMENT" });
});

test("mask schedules", (t) => {
  const steps = (schedule: MaskSchedule): number[] => [...Array(12).keys()].filter((step) => recomputesMask(schedule, step));
  t.deepEqual(steps({ kind: "one-shot", step: 3 }), [3]);
  t.deepEqual(steps({ kind: "few-shot", start: 2, shots: 3, interval: 4 }), [2, 6, 10]);
  t.deepEqual(steps({ kind: "every-step", start: 9 }), [9, 10, 11]);
  t.deepEqual(steps({ kind: "frozen" }), []);
  t.false(isPruned({ kind: "one-shot", step: 3 }, 2));
  t.true(isPruned({ kind: "one-shot", step: 3 }, 7));
  t.true(isPruned({ kind: "frozen" }, 0));
  t.is(maskFrozenFrom({ kind: "few-shot", start: 2, shots: 3, interval: 4 }), 11);
  t.is(maskFrozenFrom({ kind: "every-step", start: 0 }), undefined);
  t.throws(() => checkMaskSchedule({ kind: "few-shot", start: 0, shots: 0, interval: 1 }), { code: "INVALID_ARGUMENT", message: /shots/ });
  t.throws(() => checkMaskSchedule({ kind: "one-shot", step: 0.5 }), { code: "INVALID_ARGUMENT" });
  t.notThrows(() => checkMaskSchedule({ kind: "every-step", start: 0 }));
});
