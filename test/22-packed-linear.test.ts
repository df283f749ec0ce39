import test from "ava";
import {
  linear,
  PackedMatrix,
  packedLinear,
  type PackedLinearOptions,
  packWeight,
  setInstructionSet,
  setThreadCount,
  Tensor,
  unpackWeight,
} from "../lib/operations.js";
import { addon } from "../lib/native/addon.js";
import { randomTensor } from "./gradient.js";
import { assertClose, fast, onSet, packedMatrix, restoreRuntime, sets } from "./packed_products.js";

const specs = [
  "int8",
  "int4",
  "int3",
  "int2",
  "int4/g32",
  "int8/g64",
  "int8+2:4",
  "int4+2:4",
  "int2+2:4",
  "int4+1:4",
  "int8+1:4",
  "int4/g32+2:4",
  "int8/g128+1:4",
  "int4+3:5",
  "int4+3:4",
  "int4+2:16",
  "int6",
  "int5+2:4",
  "int1",
  "int1/g32+2:4",
  "uint8",
  "uint4/g64",
  "uint3+2:4",
  "midrise8",
  "midrise8+2:4",
  "midrise4+2:4",
  "midrise2/g32",
  "midrise3+1:4",
  "ternary",
  "ternary/g128+2:4",
  "ternary+1:4",
  "nf4",
  "nf4/g64+2:4",
  "nf4+1:4",
  "uint8+2:4",
  "uint4/g32+1:4",
  "uint2+1:2",
  "uint5/g64+2:4",
  "uint4+3:5",
  "midrise8/g32+1:4",
  "midrise8+3:4",
];

test.afterEach.always(restoreRuntime);

test.serial("whole-number products are what the definition gives", (t) => {
  for (const [index, spec] of specs.entries()) {
    const [frames, out, columns] = [3, 18, 101];
    const packed = packWeight(randomTensor([out, columns], index), spec);
    const weight = unpackWeight(packed).weight.toArray();
    const x = randomTensor([frames, columns], index + 50);
    const expected = Float32Array.from({ length: frames * out }, (_, at) => {
      const [frame, row] = [Math.floor(at / out), at % out];
      const values = x.toArray().subarray(frame * columns, (frame + 1) * columns);
      const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const sum = values.reduce(
        (total, value, i) => total + Math.round((value * 127) / largest) * (weight[row * columns + i] as number),
        0,
      );
      return (sum * largest) / 127;
    });
    using matrix = PackedMatrix.from(packed);
    for (const set of sets) assertClose(t, onSet(set, x, matrix), expected, 1e-5, `${set} ${spec}`);
  }
});

test.serial("float products are those of the dequantized weight", (t) => {
  for (const [index, spec] of [...specs, "float32", "2:4", "1:3"].entries()) {
    for (const [frames, out, columns] of [
      [1, 1, 1],
      [5, 33, 70],
      [17, 130, 128],
    ] as const) {
      const packed = packWeight(randomTensor([out, columns], index), spec);
      const x = randomTensor([frames, columns], index + 50);
      const bias = randomTensor([out], 7);
      const residual = randomTensor([frames, out], 8);
      const options = { bias, activation: "silu", scale: 0.5, residual, residualScale: 2 } as const;
      const expected = linear(x, unpackWeight(packed).weight, options).toArray();
      using matrix = PackedMatrix.from(packed);
      for (const set of sets) {
        assertClose(
          t,
          onSet(set, x, matrix, { ...options, activations: "float32" }),
          expected,
          1e-5,
          `${set} ${spec} (${frames}, ${out}, ${columns})`,
        );
      }
    }
  }
});

test.serial("fast whole-number products equal the reference's bit for bit", (t) => {
  for (const [index, spec] of specs.entries()) {
    for (const [frames, out, columns] of [
      [1, 16, 16],
      [2, 17, 4],
      [4, 5, 333],
      [11, 40, 64],
      [29, 50, 200],
    ] as const) {
      using matrix = packedMatrix(randomTensor([out, columns, 1], index), spec);
      const x = randomTensor([frames, columns], index + 50);
      const expected = onSet("reference", x, matrix);
      for (const set of fast) t.deepEqual(onSet(set, x, matrix), expected, `${set} ${spec} (${frames}, ${out}, ${columns})`);
    }
  }
});

test.serial("every schedule gives the same bits", (t) => {
  const native = addon as { packedLinear(...operands: unknown[]): Tensor["handle"] };
  const [out, columns] = [66, 70];
  const schedules = [
    [16, 12, 12, 384, 8, 1],
    [0, 1, 1, 1, 1, 0],
    [4, 3, 7, 5, 2, 20],
    [16, 8, 12, 1 << 20, 16, 999],
    [12, 5, 300, 13, 300, 1],
  ];
  for (const spec of ["int8", "int4/g32", "int4+2:4", "int4+1:4", "uint4+2:4", "midrise8+2:4", "nf4"]) {
    using matrix = packedMatrix(randomTensor([out, columns], 1), spec);
    for (const frames of [1, 7, 13, 31]) {
      const x = randomTensor([frames, columns], frames);
      const expected = onSet("reference", x, matrix);
      for (const set of fast) {
        setInstructionSet(set);
        for (const schedule of schedules) {
          const y = new Tensor(native.packedLinear(x.handle, matrix.handle, undefined, "none", 1, undefined, 1, "int8", schedule));
          t.deepEqual(y.toArray(), expected, `${set} ${spec}, ${frames} frames, ${schedule}`);
        }
      }
    }
  }
  using matrix = packedMatrix(randomTensor([out, columns], 1), "int8");
  for (const schedule of [
    [1],
    [16, 0, 12, 384, 8, 1],
    [16, 12, 8, 384, 8, 1],
    [16, 12, 12, 0, 8, 1],
    [16, 12, 12, 384, 0, 1],
    [1.5, 1, 1, 1, 1, 1],
    3,
  ]) {
    t.throws(
      () => native.packedLinear(Tensor.zeros([1, columns]).handle, matrix.handle, undefined, "none", 1, undefined, 1, "int8", schedule),
      { code: "INVALID_ARGUMENT" },
    );
  }
});

test.serial("bias, activation, scale and residual", (t) => {
  const [frames, out, columns] = [13, 37, 90];
  const bias = randomTensor([out], 1);
  const residual = randomTensor([frames, out], 2);
  const x = randomTensor([frames, columns], 3);
  const every: PackedLinearOptions[] = [
    { bias },
    { activation: "relu", bias },
    { activation: "silu" },
    { scale: 0.5, residual },
    { residual, residualScale: -2 },
    { bias, activation: "silu", scale: 3, residual, residualScale: 0.25 },
  ];
  for (const spec of ["int4+2:4", "int8", "int4/g32"]) {
    using matrix = packedMatrix(randomTensor([out, columns], 4), spec);
    for (const options of every) {
      const expected = onSet("reference", x, matrix, options);
      for (const set of fast) assertClose(t, onSet(set, x, matrix, options), expected, 1e-5, `${set} ${spec}`);
    }
  }
});

test.serial("a row depends neither on the other rows nor on the number of threads", (t) => {
  const [frames, out, columns] = [700, 150, 320];
  const x = randomTensor([frames, columns], 5);
  for (const spec of ["int4+2:4", "int4", "int8"]) {
    using matrix = packedMatrix(randomTensor([out, columns], 6), spec);
    const all = packedLinear(x, matrix).toArray();
    for (const count of [1, 2, 3]) {
      setThreadCount(count);
      t.deepEqual(packedLinear(x, matrix).toArray(), all);
    }
    for (const [begin, end] of [
      [0, 1],
      [5, 8],
      [333, 344],
      [690, 700],
    ] as const) {
      t.deepEqual(packedLinear(x.rows(begin, end), matrix).toArray(), all.slice(begin * out, end * out));
    }
  }
});
