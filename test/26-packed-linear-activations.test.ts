import test from "ava";
import { linear, PackedMatrix, packedLinear, packWeight, Tensor, unpackWeight } from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";
import { assertClose, fast, onSet, packedMatrix, restoreRuntime, sets } from "./packed_products.js";

test.afterEach.always(restoreRuntime);

test.serial("every number of rows, with every kind of activation", (t) => {
  const columns = 150;
  const x = randomTensor([30, columns], 9);
  for (const spec of [
    "int8",
    "int4/g32",
    "int2",
    "int1",
    "uint4",
    "midrise4",
    "ternary/g64",
    "nf4",
    "int4+2:4",
    "int8+1:4",
    "int1+2:4",
    "uint4+2:4",
    "uint8+1:4",
    "midrise8+2:4",
  ]) {
    using matrix = packedMatrix(randomTensor([37, columns], 10), spec);
    for (const activations of ["int8", "int8-asymmetric", "int4"] as const) {
      const expected = onSet("reference", x, matrix, { activations });
      for (const set of fast) {
        for (let frames = 1; frames <= 30; frames += frames < 18 ? 1 : 4) {
          const result = onSet(set, x.rows(0, frames), matrix, { activations });
          t.deepEqual(result, expected.subarray(0, frames * 37).slice(), `${set} ${spec} ${activations}, ${frames} frames`);
        }
      }
    }
  }
});

test.serial("activations are rounded as they say", (t) => {
  const [frames, out, columns] = [3, 18, 101];
  const x = Tensor.from(
    randomValues(frames * columns, 11).map((value) => value + 2),
    [frames, columns],
  );
  const packed = packWeight(randomTensor([out, columns], 12), "int8");
  const weight = unpackWeight(packed).weight;
  using matrix = PackedMatrix.from(packed);
  const rounded = (activations: string, row: Float32Array): Float32Array => {
    const [low, high] = [Math.min(...row), Math.max(...row)];
    if (activations === "int8-asymmetric")
      return row.map((value) => low + (Math.round((value - low) / ((high - low) / 254)) * (high - low)) / 254);
    const scale = Math.max(-low, high) / (activations === "int4" ? 7 : 127);
    return row.map((value) => Math.round(value / scale) * scale);
  };
  for (const activations of ["int8", "int8-asymmetric", "int4"] as const) {
    const values = Array.from({ length: frames }, (_, row) => [
      ...rounded(activations, x.toArray().subarray(row * columns, (row + 1) * columns)),
    ]);
    const expected = linear(Tensor.from(values.flat(), [frames, columns]), weight).toArray();
    for (const set of sets) assertClose(t, onSet(set, x, matrix, { activations }), expected, 2e-5, `${set} ${activations}`);
  }
  const constant = Tensor.from(new Float32Array(2 * columns).fill(1e6, 0, columns).fill(-3, columns), [2, columns]);
  const sums = weight
    .toArray()
    .subarray(0, columns)
    .reduce((sum, value) => sum + value, 0);
  for (const set of sets) {
    const result = onSet(set, constant, matrix, { activations: "int8-asymmetric" });
    t.true(Math.abs((result[0] as number) / 1e6 - sums) < 1e-4 && Math.abs((result[out] as number) + 3 * sums) < 1e-4, set);
  }
});

test.serial("gated and smooth activations", (t) => {
  const [frames, columns] = [14, 70];
  const x = randomTensor([frames, columns], 13);
  for (const out of [64, 38]) {
    const bias = randomTensor([out], 14);
    const gatedResidual = randomTensor([frames, out / 2], 15);
    for (const spec of ["int4+2:4", "int8", "int4/g32", "uint4+2:4", "float32"]) {
      const packed = packWeight(randomTensor([out, columns], 16), spec);
      using matrix = PackedMatrix.from(packed);
      for (const activations of ["int8", "float32"] as const) {
        const plain = onSet("reference", x, matrix, { bias, activations });
        const glu = Float32Array.from({ length: (frames * out) / 2 }, (_, at) => {
          const [row, i] = [Math.floor(at / (out / 2)), at % (out / 2)];
          const [value, gate] = [plain[row * out + i] as number, plain[row * out + out / 2 + i] as number];
          return (0.5 * value) / (1 + Math.exp(-gate)) + 2 * (gatedResidual.toArray()[at] as number);
        });
        const gelu = onSet("reference", x, matrix, { bias, activations, activation: "gelu" });
        t.true(Math.abs((gelu[0] as number) - gaussianGate(plain[0] as number)) < 1e-6);
        for (const set of sets) {
          for (const rows of [frames, 3]) {
            const options = {
              bias,
              activations,
              activation: "glu",
              scale: 0.5,
              residual: gatedResidual.rows(0, rows),
              residualScale: 2,
            } as const;
            const head = x.rows(0, rows);
            assertClose(t, onSet(set, head, matrix, options), glu.slice(0, (rows * out) / 2), 1e-5, `${set} ${spec} glu`);
            assertClose(
              t,
              onSet(set, head, matrix, { bias, activations, activation: "gelu" }),
              gelu.slice(0, rows * out),
              1e-5,
              `${set} ${spec} gelu`,
            );
          }
        }
      }
    }
  }
  using odd = packedMatrix(randomTensor([5, columns], 1), "int4");
  t.throws(() => packedLinear(x, odd, { activation: "glu" }), { code: "INVALID_ARGUMENT", message: /odd number/ });
});

/** x times the normal distribution function of x, by the trapezoid rule. */
function gaussianGate(x: number): number {
  let area = 0.5;
  const step = x / 2000;
  for (let i = 0; i <= 2000; i++) area += ((i % 2000 === 0 ? 0.5 : 1) * step * Math.exp(-((i * step) ** 2) / 2)) / Math.sqrt(2 * Math.PI);
  return x * area;
}
