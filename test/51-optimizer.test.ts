import test from "ava";
import {
  AdamW,
  availableInstructionSets,
  globalNorm,
  setInstructionSet,
  setThreadCount,
  Tensor,
  threadCount,
  warmupConstant,
  warmupCosine,
  warmupInverseSquareRoot,
  withCoolDown,
  WeightAverage,
} from "../lib/index.js";
import { randomTensor, randomValues } from "./gradient.js";

const sizes: number[][] = [[37, 19], [5], [1], [200, 130], [0]];

function parameters(seed: number): Map<string, Tensor> {
  return new Map(sizes.map((shape, i) => [`p${i}`, randomTensor(shape, seed + i)]));
}

/** The algorithm in float64. */
function adamwByFormula(w: number[], gradients: number[][], rate: number, decay: number, scale: number): number[] {
  const m = w.map(() => 0);
  const v = w.map(() => 0);
  gradients.forEach((gradient, step) => {
    gradient.forEach((raw, i) => {
      const g = raw * scale;
      m[i] = 0.9 * (m[i] as number) + 0.1 * g;
      v[i] = 0.98 * (v[i] as number) + 0.02 * g * g;
      const update = (m[i] as number) / (1 - 0.9 ** (step + 1)) / (Math.sqrt((v[i] as number) / (1 - 0.98 ** (step + 1))) + 1e-8);
      w[i] = (w[i] as number) * (1 - rate * decay) - rate * update;
    });
  });
  return w;
}

test.serial("AdamW follows its formula on every instruction set, without decay on vectors", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const tensors = parameters(1);
    const before = new Map([...tensors].map(([name, tensor]) => [name, [...tensor.toArray()]]));
    const optimizer = new AdamW(tensors, {
      weightDecay: 0.1,
      settingsOf: (name) => (name === "p3" ? { learningRateScale: 0.5, weightDecay: 0.2 } : {}),
    });
    const gradients = new Map([...tensors].map(([name, tensor]) => [name, [0, 1, 2].map((step) => randomValues(tensor.size, 50 + step))]));
    for (let step = 0; step < 3; step++) {
      const now = new Map(
        [...tensors].map(([name, tensor]) => [
          tensor,
          Tensor.from((gradients.get(name) as Float32Array[])[step] as Float32Array, tensor.shape),
        ]),
      );
      optimizer.step((parameter) => now.get(parameter), 0.01, { gradientScale: 0.5 });
    }
    for (const [name, tensor] of tensors) {
      const rate = name === "p3" ? 0.005 : 0.01;
      const decay = name === "p3" ? 0.2 : tensor.shape.length > 1 ? 0.1 : 0;
      const expected = adamwByFormula(
        before.get(name) as number[],
        (gradients.get(name) as Float32Array[]).map((g) => [...g]),
        rate,
        decay,
        0.5,
      );
      const worst = tensor.toArray().reduce((most, x, i) => Math.max(most, Math.abs(x - (expected[i] as number))), 0);
      t.true(worst < 1e-5, `${set} ${name}: ${worst}`);
    }
    optimizer.dispose();
  }
});

test.serial("gradients are clipped to a global norm, which does not depend on the number of threads", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const gradients = [...parameters(9).values()];
    const exact = Math.sqrt(gradients.reduce((sum, g) => sum + g.toArray().reduce((a, x) => a + x * x, 0), 0));
    t.true(Math.abs(globalNorm(gradients) / exact - 1) < 1e-6);

    const threads = threadCount();
    setThreadCount(1);
    const alone = globalNorm(gradients);
    setThreadCount(3);
    t.is(globalNorm(gradients), alone);
    setThreadCount(threads);

    // After the first step the moments show the gradient that was used.
    const tensors = parameters(3);
    const optimizer = new AdamW(tensors);
    const byParameter = new Map([...tensors.values()].map((tensor, i) => [tensor, gradients[i] as Tensor]));
    const norm = optimizer.step((parameter) => byParameter.get(parameter), 0.01, { maximumNorm: 2 });
    t.is(norm, alone);
    const first = [...optimizer.state()].filter(([name]) => name.startsWith("first_moment.")).map(([, tensor]) => tensor);
    t.true(Math.abs(globalNorm(first) - 0.1 * 2) < 1e-5);
  }
});

test.serial("a step without finite gradients changes nothing; parameters without gradient stay", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const tensors = new Map([
      ["a", Tensor.from([1, 2])],
      ["b", Tensor.from([3])],
    ]);
    const [a, b] = [...tensors.values()] as [Tensor, Tensor];
    const optimizer = new AdamW(tensors);
    const bad = Tensor.from([1, NaN]);
    t.true(Number.isNaN(optimizer.step((parameter) => (parameter === a ? bad : undefined), 0.1)));
    t.deepEqual([...a.toArray()], [1, 2]);
    t.is(optimizer.steps, 0);
    const good = Tensor.from([1, -1]);
    optimizer.step((parameter) => (parameter === a ? good : undefined), 0.1);
    t.deepEqual([...b.toArray()], [3]);
    t.true((a.toArray()[0] as number) < 1 && (a.toArray()[1] as number) > 2);
  }
});

test.serial("the weight average follows the weights, and lends itself to a body", async (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    const weight = randomTensor([40, 33], 4);
    const average = new WeightAverage(new Map([["w", weight]]), 0.5);
    const expected = weight.toArray();
    for (let step = 0; step < 12; step++) {
      const values = randomValues(weight.size, step);
      weight.write(values);
      average.update();
      const decay = Math.fround(Math.min(0.5, (1 + step) / (10 + step)));
      expected.forEach((old, i) => (expected[i] = decay * old + (1 - decay) * (values[i] as number)));
    }
    const held = (average.weights().get("w") as Tensor).toArray();
    t.true(held.every((x, i) => Math.abs(x - (expected[i] as number)) < 1e-6));
    const current = weight.toArray();
    t.deepEqual(await average.use(() => weight.toArray()), held);
    t.deepEqual(weight.toArray(), current);
    t.deepEqual((average.weights().get("w") as Tensor).toArray(), held);
  }
});

test("schedules rise linearly, then fall", (t) => {
  const cosine = warmupCosine({ peak: 1, warmupSteps: 10, totalSteps: 110, final: 0.1 });
  t.deepEqual([cosine(0), cosine(9), cosine(10), cosine(110), cosine(1e6)], [0.1, 1, 1, 0.1, 0.1]);
  t.true(Math.abs(cosine(60) - 0.55) < 1e-12);
  const root = warmupInverseSquareRoot({ peak: 2, warmupSteps: 4, final: 0.01 });
  t.deepEqual([root(0), root(3), root(15), root(1e9)], [0.5, 2, 1, 0.01]);
  t.is(warmupInverseSquareRoot({ peak: 2, warmupSteps: 0 })(0), 2);
  const cooled = withCoolDown(warmupConstant({ peak: 4, warmupSteps: 2 }), { totalSteps: 100, share: 0.4 });
  t.deepEqual([0, 60, 80, 100, 101].map(cooled), [2, 4, 2, 0, 0]);
  t.deepEqual([0, 1, 2, 900].map(warmupConstant({ peak: 3, warmupSteps: 3 })), [1, 2, 3, 3]);
});

test("misuse is a coded error", (t) => {
  t.throws(() => warmupCosine({ peak: 1, warmupSteps: 10, totalSteps: 5 }), { code: "INVALID_ARGUMENT" });
  t.throws(() => warmupConstant({ peak: -1, warmupSteps: 1 }), { code: "INVALID_ARGUMENT" });
  t.throws(() => warmupConstant({ peak: 1, warmupSteps: 0.5 }), { code: "INVALID_ARGUMENT" });
  t.throws(() => withCoolDown(warmupConstant({ peak: 1, warmupSteps: 1 }), { totalSteps: 9, share: 1.5 }), { code: "INVALID_ARGUMENT" });
  t.throws(() => new AdamW(new Map(), { betas: [1, 0.9] }), { code: "INVALID_ARGUMENT" });
  t.throws(() => new WeightAverage(new Map(), 1), { code: "INVALID_ARGUMENT" });
  const optimizer = new AdamW(new Map([["w", Tensor.zeros([2, 3])]]));
  t.throws(() => optimizer.step(() => Tensor.zeros([3, 2]), 0.1), {
    code: "INVALID_ARGUMENT",
    message: /gradients\[0\] has shape \(3, 2\)/,
  });
  t.throws(() => optimizer.step(() => Tensor.zeros([2, 3], "int32"), 0.1), { code: "INVALID_ARGUMENT" });
});
