import test, { type ExecutionContext } from "ava";
import {
  availableInstructionSets,
  compressionError,
  fakeQuantize,
  gptq,
  InputMoments,
  inverseFactor,
  magnitudeMask,
  packWeight,
  parseWeightSpec,
  searchScales,
  setInstructionSet,
  sparseGpt,
  Tensor,
  tidy,
  unpackWeight,
  type LayerInputs,
  type SolvedWeight,
} from "../lib/operations.js";
import { matmul } from "../lib/ops/matmul.js";
import { randomTensor, randomValues } from "./gradient.js";

test.afterEach.always(() => setInstructionSet(availableInstructionSets().at(-1) ?? "reference"));

/** Moments of correlated inputs: each is a mixture of a few common sources and one of its own. */
function correlated(columns: number, seed: number, frames = 3 * columns): LayerInputs {
  const sources = randomTensor([frames, 6], seed);
  const x = matmul(sources, randomTensor([6, columns], seed + 1)).toArray();
  const own = randomValues(frames * columns, seed + 2);
  const inputs = new InputMoments(["layer"]);
  inputs.observe(
    "layer",
    Tensor.from(
      x.map((value, i) => value + 0.4 * (own[i] as number)),
      [frames, columns],
    ),
  );
  return inputs.of("layer");
}

const error = (weight: Tensor, compressed: Tensor, inputs: LayerInputs): number => compressionError(weight, compressed, inputs).output;

/** What the file will hold of a solution. */
const packed = ({ weight, mask, scale, zeroPoint }: SolvedWeight, spec: string): Tensor =>
  unpackWeight(packWeight(weight, spec, mask, { ...(scale ? { scale } : {}), ...(zeroPoint ? { zeroPoint } : {}) })).weight;

test.serial("the factor is that of the damped inverse, on every instruction set", (t) => {
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const size of [1, 2, 64, 65, 321]) {
      tidy(() => {
        const { moments } = correlated(size, size);
        const values = moments.toArray();
        const factor = inverseFactor(moments, 0.01);
        const added = (0.01 * values.reduce((sum, value, i) => (i % (size + 1) === 0 ? sum + value : sum), 0)) / size;
        const damped = Tensor.from(
          values.map((value, i) => (i % (size + 1) === 0 ? value + added : value)),
          [size, size],
        );
        // U·(H + d)·Uᵀ = I, and U is upper triangular.
        const identity = matmul(matmul(factor, damped), factor, { transposeB: true }).toArray();
        const worst = identity.reduce((most, value, i) => Math.max(most, Math.abs(value - (i % (size + 1) === 0 ? 1 : 0))), 0);
        t.true(worst < 2e-3, `${set}, ${size}: ${worst}`);
        t.true(factor.toArray().every((value, i) => (i % size >= Math.floor(i / size) ? Number.isFinite(value) : value === 0)));
      });
    }
  }
});

test.serial("GPTQ: never worse than rounding to nearest where inputs are correlated, and packs exactly", (t) => {
  const inputs = correlated(136, 1);
  const weight = randomTensor([20, 136], 2);
  for (const spec of [
    "int8",
    "int4",
    "int3",
    "int2",
    "uint4",
    "uint2/g32",
    "int4/g32",
    "int3/g64",
    "midrise3",
    "int1",
    "ternary",
    "ternary/g128",
    "nf4",
    "nf4/g64",
  ]) {
    for (const clip of [false, true]) {
      tidy(() => {
        const solved = gptq(weight, spec, inputs, { clip });
        const nearest = fakeQuantize(weight, spec);
        const [ours, theirs] = [error(weight, solved.weight, inputs), error(weight, nearest, inputs)];
        t.true(ours < theirs, `${spec}, clip ${clip}: ${ours} against ${theirs}`);
        t.deepEqual(packed(solved, spec).toArray(), solved.weight.toArray(), `${spec}, clip ${clip}`);
      });
    }
  }
});

test.serial("SparseGPT: better than magnitude and rounding, keeps N of M, packs exactly", (t) => {
  const inputs = correlated(102, 3);
  const weight = randomTensor([15, 102], 4);
  for (const spec of ["2:4", "1:4", "int4+2:4", "int8+3:5", "int3/g32+2:4", "uint4+2:4", "midrise2+2:4", "int1+2:4", "int4+1:16"]) {
    tidy(() => {
      const { sparsity } = parseWeightSpec(spec);
      const { kept = 0, of = 0 } = sparsity ?? {};
      const solved = sparseGpt(weight, spec, inputs);
      const mask = Array.from((solved.mask as Tensor).toArray());
      for (let row = 0; row < 15; row++) {
        for (let group = 0; group < 102; group += of) {
          const size = Math.min(of, 102 - group);
          const sum = mask.slice(102 * row + group, 102 * row + group + size).reduce((a, b) => a + b, 0);
          t.is(sum, Math.min(kept, size));
        }
      }
      const stored = packed(solved, spec);
      const nearest = fakeQuantize(weight, spec);
      const [ours, theirs] = [error(weight, stored, inputs), error(weight, nearest, inputs)];
      t.true(ours < theirs, `${spec}: ${ours} against ${theirs}`);
      const values = solved.weight.toArray();
      t.true(
        stored.toArray().every((value, i) => value === (mask[i] ? values[i] : 0)),
        spec,
      );
    });
  }
});

/** Solves rows as SparseGPT does, with the inverse made anew for the inputs that are left: plain, slow and independent. */
function bruteForce(row: number[], moments: number[][], kept: number, of: number): { weights: number[]; mask: number[] } {
  const size = row.length;
  const w = [...row];
  const mask = row.map(() => 1);
  const inverseOf = (first: number): number[][] => inverse(moments.slice(first).map((line) => line.slice(first)));
  for (let group = 0; group < size; group += of) {
    // The loss of pruning j alone with the inputs before it fixed: w_j^2 / [H_{j..}^-1]_jj.
    const members = Array.from({ length: Math.min(of, size - group) }, (_, i) => group + i);
    const loss = members.map((j) => (w[j] as number) ** 2 / (inverseOf(j)[0] as number[])[0]!);
    const order = members.map((_, i) => i).sort((a, b) => loss[b]! - loss[a]! || a - b);
    for (const i of order.slice(kept)) mask[group + i] = 0;
    for (const j of members) {
      if (mask[j]) continue;
      const h = inverseOf(j);
      const step = w[j]! / h[0]![0]!;
      for (let k = j; k < size; k++) w[k]! -= step * h[0]![k - j]!;
      w[j] = 0;
    }
  }
  return { weights: w, mask };
}

/** Gauss and Jordan. */
function inverse(matrix: number[][]): number[][] {
  const n = matrix.length;
  const rows = matrix.map((line, i) => [...line, ...line.map((_, j) => (i === j ? 1 : 0))]);
  for (let i = 0; i < n; i++) {
    const pivot = rows[i]![i]!;
    rows[i] = rows[i]!.map((value) => value / pivot);
    for (let k = 0; k < n; k++) {
      if (k === i) continue;
      const factor = rows[k]![i]!;
      rows[k] = rows[k]!.map((value, j) => value - factor * rows[i]![j]!);
    }
  }
  return rows.map((line) => line.slice(n));
}

test.serial("SparseGPT equals solving for the remaining inputs again and again, on every instruction set", (t) => {
  const [rows, columns] = [5, 12];
  const inputs = correlated(columns, 7, 40);
  const values = inputs.moments.toArray();
  const mean = values.reduce((sum, value, i) => (i % (columns + 1) === 0 ? sum + value : sum), 0) / columns;
  const moments = Array.from({ length: columns }, (_, i) =>
    Array.from(values.slice(i * columns, (i + 1) * columns), (value, j) => value + (i === j ? 0.01 * mean : 0)),
  );
  const weight = randomTensor([rows, columns], 9);
  for (const set of availableInstructionSets()) {
    setInstructionSet(set);
    for (const [kept, of] of [
      [2, 4],
      [1, 4],
      [1, 3],
      [3, 5],
    ] as const) {
      const { weight: found, mask } = sparseGpt(weight, `${kept}:${of}`, inputs);
      for (let row = 0; row < rows; row++) {
        const part = (tensor: Tensor): number[] => Array.from(tensor.toArray().slice(row * columns, (row + 1) * columns));
        const wanted = bruteForce(part(weight), moments, kept, of);
        t.deepEqual(part(mask as Tensor), wanted.mask, `${set} ${kept}:${of} row ${row}`);
        part(found).forEach((value, j) => {
          if (wanted.mask[j])
            t.true(Math.abs(value - wanted.weights[j]!) < 2e-3, `${set} ${kept}:${of} (${row}, ${j}): ${value}, ${wanted.weights[j]}`);
        });
      }
    }
  }
});

test.serial("blocks of inputs give what one input after another gives, on every instruction set", (t) => {
  for (const [spec, columns] of [
    ["int4+2:4", 300],
    ["int3/g64", 290],
    ["int4+3:5", 660],
  ] as const) {
    const inputs = correlated(columns, 11, columns + 50);
    const weight = randomTensor([6, columns], 12);
    setInstructionSet("reference");
    const solve = parseWeightSpec(spec).sparsity ? sparseGpt : gptq;
    const wanted = packed(solve(weight, spec, inputs), spec);
    const loss = error(weight, wanted, inputs);
    for (const set of availableInstructionSets()) {
      setInstructionSet(set);
      const found = packed(solve(weight, spec, inputs), spec);
      t.true(Math.abs(error(weight, found, inputs) - loss) < 0.05 * loss, `${spec} ${set}: ${error(weight, found, inputs)}, ${loss}`);
      const same = found.toArray().filter((value, i) => Math.abs(value - (wanted.toArray()[i] as number)) < 1e-4).length;
      t.true(same > 0.9 * weight.size, `${spec} ${set}: ${same} of ${weight.size} equal`);
    }
  }
});

test("a weight of one input has none to make up for it; a pointwise convolution keeps its shape", (t) => {
  const inputs = correlated(1, 3);
  t.deepEqual(
    gptq(Tensor.from([0.3, -2], [2, 1]), "int4", inputs, { clip: false }).weight.toArray(),
    fakeQuantize(Tensor.from([0.3, -2], [2, 1]), "int4").toArray(),
  );
  const pointwise = randomTensor([4, 8, 1], 3);
  t.deepEqual(gptq(pointwise, "int4", correlated(8, 2)).weight.shape, [4, 8, 1]);
});

test("inputs that are never seen, and inputs that are always zero", (t) => {
  const weight = randomTensor([3, 8], 3);
  const zeros: LayerInputs = { moments: Tensor.zeros([8, 8]), frames: 10 };
  t.deepEqual(gptq(weight, "int4", zeros, { clip: false }).weight.toArray(), fakeQuantize(weight, "int4").toArray());
  const values = correlated(8, 5)
    .moments.toArray()
    .map((value, i) => (Math.floor(i / 8) === 2 || i % 8 === 2 ? 0 : value));
  const solved = gptq(weight, "int4", { moments: Tensor.from(values, [8, 8]), frames: 24 });
  t.true(solved.weight.toArray().every(Number.isFinite));
});

test("a given mask is kept, also with a dense spec", (t) => {
  const inputs = correlated(16, 3);
  const weight = randomTensor([4, 16], 1);
  const mask = magnitudeMask(weight, 2, 4);
  t.deepEqual(gptq(weight, "int4+2:4", inputs, { mask }).mask?.toArray(), mask.toArray());
  t.deepEqual(sparseGpt(weight, "int4+2:4", inputs, { mask }).mask?.toArray(), mask.toArray());
  t.deepEqual(gptq(weight, "int4", inputs, { mask }).mask?.toArray(), mask.toArray());
  const solved = gptq(weight, "float32", inputs, { mask });
  const pruned = fakeQuantize(weight, "float32", { mask });
  t.true(error(weight, fakeQuantize(solved.weight, "float32", { mask }), inputs) < error(weight, pruned, inputs));
});

test("misuse is refused", (t) => {
  const refuse = (action: () => unknown, message: RegExp, code = "INVALID_ARGUMENT"): void => {
    t.throws(action, { code, message });
  };
  const inputs = correlated(8, 5);
  const weight = randomTensor([3, 8], 3);
  refuse(() => gptq(weight, "float32", inputs), /neither rounds nor prunes/);
  refuse(() => gptq(weight, "int4+2:4", inputs), /needs a mask/);
  refuse(() => gptq(weight, "int7", inputs), /int7/, "UNSUPPORTED_SPEC");
  refuse(() => sparseGpt(weight, "int4", inputs), /prunes nothing/);
  refuse(() => gptq(randomTensor([3, 9], 3), "int4", inputs), /factor/);
  refuse(() => gptq(weight, "int4", inputs, { damping: -1 }), /damping/);
  refuse(() => inverseFactor(Tensor.from([1, 2, 2, 1], [2, 2]), 0), /not positive definite/);
  refuse(() => inverseFactor(Tensor.from([NaN], [1, 1])), /not positive definite/);
  refuse(() => inverseFactor(Tensor.zeros([2, 3])), /square/);
  refuse(() => searchScales(weight, "2:4"), /no scales/);
  nonFinite(t, inputs);
});

function nonFinite(t: ExecutionContext, inputs: LayerInputs): void {
  const solved = gptq(Tensor.from([NaN, ...randomValues(7, 1)], [1, 8]), "int4", inputs);
  t.throws(() => packed(solved, "int4"), { code: "INVALID_ARGUMENT", message: /finite/ });
}
