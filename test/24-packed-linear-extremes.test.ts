import test from "ava";
import { PackedMatrix, packedLinear, packWeight, Tensor, UsmLiteError } from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";
import { fast, onSet, packedMatrix, restoreRuntime } from "./packed_products.js";

test.afterEach.always(restoreRuntime);

test.serial("nothing saturates at the extremes", (t) => {
  const [frames, out, columns] = [7, 16, 3000];
  const sign = (i: number): number => (i % 3 === 0 ? -1 : 1);
  const weights: Record<string, (row: number, i: number) => number> = {
    "all largest": () => 1,
    "all smallest": () => -1,
    alternating: (_, i) => (i % 2 ? 1 : -1),
    "rows differ": (row, i) => (row % 2 ? sign(i) : 1),
  };
  const inputs: Record<string, (i: number) => number> = { largest: () => 3, smallest: () => -3, alternating: (i) => (i % 2 ? 3 : -3) };
  for (const spec of [
    "int8",
    "int4",
    "int2",
    "uint8",
    "midrise8",
    "nf4",
    "ternary",
    "int8+2:4",
    "int4+2:4",
    "midrise4+2:4",
    "int4+1:4",
    "int4/g128",
    "uint8+2:4",
    "uint4+2:4",
    "midrise8+2:4",
  ]) {
    for (const [weightName, weightOf] of Object.entries(weights)) {
      const values = Float32Array.from({ length: out * columns }, (_, at) => weightOf(Math.floor(at / columns), at % columns));
      using matrix = packedMatrix(Tensor.from(values, [out, columns]), spec);
      for (const [inputName, inputOf] of Object.entries(inputs)) {
        const x = Tensor.from(
          Float32Array.from({ length: frames * columns }, (_, at) => inputOf(at % columns)),
          [frames, columns],
        );
        const expected = onSet("reference", x, matrix);
        for (const set of fast) t.deepEqual(onSet(set, x, matrix), expected, `${set} ${spec} ${weightName} times ${inputName}`);
      }
    }
  }
});

test.serial("rows of zeros, denormals, huge values, NaN and infinity", (t) => {
  const columns = 40;
  const rows = [
    () => 0,
    () => 1e-40,
    () => 2e-31,
    (i: number) => (i % 2 ? 3e36 : -3e36),
    (i: number) => (i === 39 ? NaN : 1),
    (i: number) => (i === 3 ? -Infinity : 1),
    (i: number) => i - 20,
  ];
  const x = Tensor.from(
    Float32Array.from({ length: rows.length * columns }, (_, at) => rows[Math.floor(at / columns)]?.(at % columns) as number),
    [rows.length, columns],
  );
  for (const spec of ["int4+2:4", "int4", "int8"]) {
    using matrix = packedMatrix(Tensor.from(randomValues(5 * columns, 3), [5, columns]), spec);
    const expected = onSet("reference", x, matrix);
    for (const set of fast) t.deepEqual(onSet(set, x, matrix), expected, `${set} ${spec}`);
    t.true(expected.subarray(0, 15).every((value) => value === 0));
    t.true(expected.subarray(15, 20).every((value) => Number.isFinite(value)));
    t.true(expected.subarray(20, 30).every((value) => Number.isNaN(value)));
    t.true(expected.subarray(30).every((value) => Number.isFinite(value) && value !== 0));
  }
});

test.serial("no frames, and fewer bytes than the float weight", (t) => {
  using matrix = packedMatrix(randomTensor([256, 512], 1), "int4+2:4");
  t.deepEqual(packedLinear(Tensor.zeros([0, 512]), matrix).shape, [0, 256]);
  t.deepEqual([matrix.spec, matrix.rows, matrix.columns], ["int4+2:4", 256, 512]);
  t.true(matrix.residentBytes < (256 * 512 * 4) / 7);
});

test("misuse is a coded error", (t) => {
  const packed = packWeight(randomTensor([4, 8], 1), "int4");
  const matrix = PackedMatrix.from(packed);
  const x = Tensor.zeros([2, 8]);
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  t.throws(() => packedLinear(Tensor.zeros([2, 7]), matrix), { ...invalid, message: /takes 8 features but x has 7/ });
  t.throws(() => packedLinear(x, matrix, { bias: Tensor.zeros([5]) }), invalid);
  t.throws(() => packedLinear(x, matrix, { residual: Tensor.zeros([2, 5]) }), invalid);
  t.throws(() => packedLinear(x, matrix, { activations: "int3" as "int8" }), {
    ...invalid,
    message: /choose float32, int8, int8-asymmetric or int4/,
  });
  t.throws(() => packedLinear(x, { handle: x.handle } as unknown as PackedMatrix), { ...invalid, message: /packed matrix/ });
  t.throws(() => PackedMatrix.fromShared(123456), { ...invalid, message: /no packed matrix/ });
  t.throws(() => PackedMatrix.from({ ...packed, shape: [4, 9] }), { code: "BAD_CHECKPOINT" });
  t.throws(() => PackedMatrix.from(packWeight(Tensor.zeros([1, 65537]), "int8")), { ...invalid, message: /at most 65536/ });
  for (const spec of ["int4", "int4+2:4", "int8+1:4", "int4+3:5"]) {
    const zeros = packWeight(randomTensor([4, 9], 1), spec);
    const message = /code -\d+ is outside/; // what the stored value 0 stands for
    t.throws(() => PackedMatrix.from({ ...zeros, packed: Tensor.from(zeros.packed.toArray().fill(0), zeros.packed.shape) }), {
      code: "BAD_CHECKPOINT",
      message,
    });
  }
  matrix.dispose();
  matrix.dispose();
  t.true(matrix.released);
  t.throws(() => packedLinear(x, matrix), { code: "TENSOR_RELEASED" });
  t.throws(() => matrix.share(), { code: "TENSOR_RELEASED" });
});
