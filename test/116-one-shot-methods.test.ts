import test from "ava";
import {
  availableInstructionSets,
  compressionError,
  fakeQuantize,
  InputMoments,
  lowRankBytes,
  lowRankFactors,
  magnitudeMask,
  packWeight,
  packedBytes,
  rankWithin,
  searchScales,
  setInstructionSet,
  Tensor,
  tidy,
  unpackWeight,
  unstructuredWandaMask,
  wandaMask,
  withinBudget,
  type Candidate,
  type GivenScales,
  type LayerInputs,
} from "../lib/operations.js";
import { jacobiEigenvectors } from "../lib/oneshot/low_rank.js";
import { meanSquares } from "../lib/oneshot/input_moments.js";
import { matmul } from "../lib/ops/matmul.js";
import { randomTensor, randomValues } from "./gradient.js";

test.afterEach.always(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

const observed = (x: Tensor): LayerInputs => {
  const inputs = new InputMoments(["a"]);
  inputs.observe("a", x);
  return inputs.of("a");
};

test("moments are sums over frames and batches; layers with the same input share them", (t) => {
  using inputs = new InputMoments(["a", "b", "c"]);
  const [first, second] = [randomTensor([7, 3], 1), randomTensor([4, 3], 2)];
  for (const x of [first, second]) {
    inputs.observe("a", x);
    inputs.observe("b", x);
    inputs.observe("other", x);
  }
  inputs.observe("c", first);
  const values = [...first.toArray(), ...second.toArray()];
  const { moments, frames } = inputs.of("a");
  t.is(frames, 11);
  for (let i = 0; i < 3; i++) {
    for (let j = 0; j < 3; j++) {
      const sum = Array.from({ length: 11 }, (_, k) => values[3 * k + i]! * values[3 * k + j]!).reduce((a, b) => a + b);
      t.true(Math.abs(sum - (moments.toArray()[3 * i + j] as number)) < 1e-5);
    }
  }
  t.is(inputs.of("b").moments, moments);
  t.is(inputs.of("c").frames, 7);
  t.not(inputs.of("c").moments, moments);
  t.deepEqual(
    [...meanSquares(inputs.of("c")).toArray()].map((x) => x.toFixed(4)),
    [0, 4, 8].map((i) => ((inputs.of("c").moments.toArray()[i] as number) / 7).toFixed(4)),
  );
  t.throws(() => inputs.of("other"), { code: "INVALID_ARGUMENT", message: /no input of "other"/ });
});

test("errors are those of the weights and of the outputs", (t) => {
  const x = randomTensor([50, 6], 3);
  const [weight, other] = [randomTensor([4, 6], 4), randomTensor([4, 6], 5)];
  const energy = (tensor: Tensor): number => tensor.toArray().reduce((sum, value) => sum + value * value, 0);
  const difference = Tensor.from(
    weight.toArray().map((value, i) => value - (other.toArray()[i] as number)),
    [4, 6],
  );
  const found = compressionError(weight, other, observed(x));
  const outputs = (w: Tensor): number => energy(matmul(x, w, { transposeB: true }));
  t.true(Math.abs(found.weight - energy(difference) / energy(weight)) < 1e-5);
  t.true(Math.abs(found.output - outputs(difference) / outputs(weight)) < 1e-4);
  t.deepEqual(compressionError(weight, weight, observed(x)), { weight: 0, output: 0 });
  t.deepEqual(compressionError(Tensor.zeros([4, 6]), weight, observed(x)), { weight: 0, output: 0 });
  t.throws(() => compressionError(weight, randomTensor([4, 5], 1), observed(x)), { code: "INVALID_ARGUMENT" });
});

/** What packing makes of a weight with given scales. */
const rounded = (weight: Tensor, spec: string, mask: Tensor | undefined, scales: GivenScales): Tensor =>
  unpackWeight(packWeight(weight, spec, mask, scales)).weight;

test.serial(
  "searched scales lose no more than the format's own, much less where few levels meet large weights, alike on every instruction set",
  (t) => {
    const weight = Tensor.from(
      randomValues(600, 5).map((value) => value ** 5),
      [4, 150],
    );
    const importance = Tensor.from(
      randomValues(150, 6).map((value) => value * value),
      [150],
    );
    const lost = (found: Tensor, mask?: Tensor): number => {
      const [values, wanted, weights, kept] = [found.toArray(), weight.toArray(), importance.toArray(), mask?.toArray()];
      return values.reduce(
        (sum, value, i) => sum + ((kept?.[i] ?? 1) ? (weights[i % 150] as number) * (value - (wanted[i] as number)) ** 2 : 0),
        0,
      );
    };
    const mask = magnitudeMask(weight, 2, 4);
    for (const spec of [
      "int8",
      "int4",
      "int2",
      "int2/g32",
      "uint3",
      "uint2/g64",
      "midrise2",
      "int1",
      "ternary/g128",
      "nf4",
      "int3+2:4",
      "midrise2/g32+2:4",
    ]) {
      const used = spec.includes(":") ? mask : undefined;
      const own = lost(fakeQuantize(weight, spec, used ? { mask: used } : {}), used);
      setInstructionSet("reference");
      const wanted = lost(rounded(weight, spec, used, searchScales(weight, spec, { mask: used, importance })), used);
      t.true(wanted <= own * 1.0001, `${spec}: ${wanted}, own ${own}`);
      if (spec === "int2") t.true(wanted < 0.7 * own, `${wanted}, own ${own}`);
      for (const set of availableInstructionSets()) {
        setInstructionSet(set);
        const found = lost(rounded(weight, spec, used, searchScales(weight, spec, { mask: used, importance })), used);
        t.true(Math.abs(found - wanted) <= 1e-3 * wanted, `${spec}, ${set}: ${found}, ${wanted}`);
      }
    }
    const zeros = Tensor.zeros([2, 5]);
    t.deepEqual([...(searchScales(zeros, "int4").scale as Tensor).toArray()], [1, 1]);
  },
);

test("Wanda weighs weights by the size of their inputs", (t) => {
  const weight = Tensor.from([1, 2, 3, 4, 4, 3, 2, 1], [2, 4]);
  const inputs = observed(Tensor.from([9, 3, 1, 1, -9, -3, -1, -1], [2, 4]));
  t.deepEqual([...wandaMask(weight, { kept: 2, of: 4 }, inputs).toArray()], [1, 1, 0, 0, 1, 1, 0, 0]);
  const alike = observed(Tensor.from([1, 1, 1, 1], [1, 4]));
  t.deepEqual(wandaMask(weight, { kept: 2, of: 4 }, alike).toArray(), magnitudeMask(weight, 2, 4).toArray());
  t.deepEqual([...unstructuredWandaMask(weight, 0.75, inputs).toArray()], [1, 0, 0, 0, 1, 0, 0, 0]);
  t.deepEqual([...unstructuredWandaMask(weight, 0.25, alike).toArray()], [0, 1, 1, 1, 1, 1, 1, 0]);
  t.throws(() => unstructuredWandaMask(weight, 1, inputs), { code: "INVALID_ARGUMENT", message: /share of 1/ });
  t.throws(() => wandaMask(randomTensor([2, 8], 1), { kept: 2, of: 4 }, inputs), {
    code: "INVALID_ARGUMENT",
    message: /takes 8 inputs, but moments are of 4/,
  });
  t.deepEqual(wandaMask(weight.reshape([2, 4, 1]), { kept: 2, of: 4 }, inputs).shape, [2, 4, 1]);
});

test("eigenvectors are orthonormal and the largest come first", (t) => {
  const size = 9;
  const a = randomTensor([size, size], 3);
  const symmetric = matmul(a, a, { transposeB: true });
  const v = Tensor.from(jacobiEigenvectors(symmetric.toArray(), size), [size, size]);
  const diagonal = matmul(v, matmul(symmetric, v), { transposeA: true }).toArray();
  const eigenvalues = Array.from({ length: size }, (_, i) => diagonal[i * (size + 1)] as number);
  t.deepEqual(
    [...eigenvalues].sort((x, y) => y - x),
    eigenvalues,
  );
  diagonal.forEach((value, i) => t.true(i % (size + 1) === 0 || Math.abs(value) < 1e-4));
});

test("low rank: exact where the weight has it, and least for the outputs that there are", (t) => {
  tidy(() => {
    const exact = matmul(randomTensor([20, 3], 1), randomTensor([3, 30], 2));
    const { left, right } = lowRankFactors(exact, 3);
    matmul(left, right)
      .toArray()
      .forEach((value, i) => t.true(Math.abs(value - (exact.toArray()[i] as number)) < 1e-4));

    const weight = randomTensor([24, 40], 3);
    const narrow = observed(matmul(randomTensor([200, 5], 4), randomTensor([5, 40], 5)));
    const product = (inputs?: LayerInputs): Tensor => {
      const factors = lowRankFactors(weight, 5, inputs);
      return matmul(factors.left, factors.right);
    };
    // Inputs of five dimensions have outputs of five.
    t.true(compressionError(weight, product(narrow), narrow).output < 1e-4);
    t.true(compressionError(weight, product(), narrow).output > 0.05);
    t.true(compressionError(weight, product(), narrow).weight < compressionError(weight, product(narrow), narrow).weight);
    t.deepEqual(lowRankFactors(weight.reshape([24, 40, 1]), 24).right.shape, [24, 40]);
    t.true(compressionError(weight, (({ left: l, right: r }) => matmul(l, r))(lowRankFactors(weight, 24)), narrow).weight < 1e-6);
    for (const rank of [0, 25, 1.5])
      t.throws(() => lowRankFactors(weight, rank), { code: "INVALID_ARGUMENT", message: /rank .* impossible/ });
  });
  t.is(lowRankBytes(3, 20, 30, "float32"), 4 * 3 * 50);
  t.is(rankWithin(4 * 3 * 50 + 199, 20, 30, "float32"), 3);
  t.is(rankWithin(199, 20, 30, "float32"), 0);
  const { codes, scales } = packedBytes("int8", 20, 3);
  t.true(lowRankBytes(3, 20, 30, "int8") > codes + scales);
});

test("a budget of bytes: within it, better than any one spec, and as good as trying all", (t) => {
  const random = randomValues(60, 8);
  const layers = new Map(
    Array.from({ length: 5 }, (_, layer): [string, Candidate[]] => {
      const size = 100 + 100 * Math.abs(random[layer] as number);
      const loss = Math.abs(random[10 + layer] as number);
      return [
        `layer${layer}`,
        [8, 4, 2].map((bits) => ({
          spec: `int${bits}`,
          bytes: Math.round((size * bits) / 8),
          loss: loss * 4 ** -bits * (1 + 0.2 * (random[20 + layer * 3 + bits] as number)),
        })),
      ];
    }),
  );
  const total = (choice: Iterable<Candidate>, key: "bytes" | "loss"): number => [...choice].reduce((sum, one) => sum + one[key], 0);
  const names = [...layers.keys()];
  const smallest = total(
    [...layers.values()].map((all) => all[2] as Candidate),
    "bytes",
  );
  const largest = total(
    [...layers.values()].map((all) => all[0] as Candidate),
    "bytes",
  );
  for (let budget = smallest; budget <= largest; budget += 37) {
    const chosen = withinBudget(layers, budget);
    t.deepEqual([...chosen.keys()], names);
    t.true(total(chosen.values(), "bytes") <= budget);
    const loss = total(chosen.values(), "loss");
    for (const index of [0, 1, 2]) {
      const uniform = [...layers.values()].map((all) => all[index] as Candidate);
      if (total(uniform, "bytes") <= budget) t.true(loss <= total(uniform, "loss"));
    }
    let best = Infinity;
    for (let code = 0; code < 3 ** 5; code++) {
      const choice = names.map((name, i) => (layers.get(name) as Candidate[])[Math.floor(code / 3 ** i) % 3] as Candidate);
      if (total(choice, "bytes") <= budget) best = Math.min(best, total(choice, "loss"));
    }
    // The relaxation leaves at most one step unused.
    const step = Math.max(...[...layers.values()].map((all) => (all[2] as Candidate).loss));
    t.true(loss >= best - 1e-12 && loss <= best + step, `${budget}: ${loss}, best ${best}`);
  }
  t.is(total(withinBudget(layers, largest).values(), "bytes"), largest);
  t.throws(() => withinBudget(layers, smallest - 1), { code: "INVALID_ARGUMENT", message: /smallest specs take/ });
  // A candidate that is larger and worse is never taken.
  const odd = new Map([
    [
      "a",
      [
        { spec: "x", bytes: 10, loss: 1 },
        { spec: "y", bytes: 20, loss: 2 },
      ],
    ],
  ]);
  t.is(withinBudget(odd, 100).get("a")?.spec, "x");
});
