import { assertClose, onlySmall, realGpu } from "./gpu.js";
import test from "ava";
import {
  type Arithmetic,
  deviceLinear,
  DeviceStream,
  DeviceTensor,
  DeviceWeight,
  gpuMemoryStatistics,
  linear,
  packWeight,
  quantizeRows,
  Tensor,
  tidy,
  unpackWeight,
  UsmLiteError,
} from "../lib/operations.js";
import { activationType } from "./device_products.js";
import { randomTensor, randomValues } from "./gradient.js";

/** How far from the exact product, relative to the largest output: y is rounded to 8 (bfloat16) or 11 bits, group scales too. */
const tolerance = (arithmetic: Arithmetic, spec: string): number =>
  (arithmetic === "float16" ? 2 ** -10 : 2 ** -8) * (spec.includes("/g") ? 2 : 1) + (arithmetic === "float8" ? 2 ** -4 : 0);

interface Case {
  spec: string;
  arithmetic: Arithmetic;
}

const inArithmetic = (arithmetic: Arithmetic, ...specs: string[]): Case[] => specs.map((spec) => ({ spec, arithmetic }));

/** By what they have in common, so that a failure tells. */
const cases: Readonly<Record<string, readonly Case[]>> = {
  "dense, bfloat16": inArithmetic("bfloat16", "float32", "int8", "int4", "int3", "int2", "ternary", "int1", "nf4", "midrise2"),
  "2:4, bfloat16": inArithmetic("bfloat16", "float32+2:4", "int8+2:4", "int4+2:4", "int2+2:4", "int4+1:4", "ternary+2:4"),
  "scales per group, bfloat16": inArithmetic(
    "bfloat16",
    "int4/g32",
    "int8/g64",
    "int4/g128",
    "nf4/g64",
    "int1/g128",
    "int4/g32+2:4",
    "int4/g128+2:4",
  ),
  float16: inArithmetic("float16", "float32", "int4", "int8", "int3/g64", "int4/g128", "int4+2:4", "float32+2:4"),
  int8: inArithmetic("int8", "int8", "int4", "int8+2:4", "int4+2:4", "int2", "nf4"),
  float8: inArithmetic("float8", "float32", "float32+2:4"),
};

/** (tokens, outputs, inputs) */
const shapes = [
  [1, 64, 64],
  [3, 70, 136],
  [17, 40, 264],
] as const;
const largeShapes = [
  [33, 256, 1024],
  [257, 320, 520],
  [600, 384, 512],
] as const;

/** float32 values as they are after rounding to the type of activations. */
function rounded(x: Tensor, type: "bfloat16" | "float16"): Tensor {
  using device = DeviceTensor.from(x, type);
  return device.toTensor();
}

/** As quantizeRows rounds: the values that codes and scales stand for. */
function quantized(x: Tensor, type: "int8" | "float8"): Tensor {
  using device = DeviceTensor.from(x, "bfloat16");
  const { codes, scales } = quantizeRows(device, type);
  const [rows, columns] = x.shape as [number, number];
  const scaleValues = scales.toTensor().toArray();
  const values = codes.toTensor().toArray();
  codes.dispose();
  scales.dispose();
  const of = (code: number): number => {
    if (type === "int8") return code;
    const [exponent, mantissa] = [(code >> 3) & 15, code & 7];
    const magnitude = exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10);
    return code & 128 ? -magnitude : magnitude;
  };
  return Tensor.from(
    Float32Array.from({ length: rows * columns }, (_, i) => of(values[i] as number) * (scaleValues[Math.floor(i / columns)] as number)),
    [rows, columns],
  );
}

function operand(x: Tensor, arithmetic: Arithmetic): Tensor {
  return arithmetic === "int8" || arithmetic === "float8" ? quantized(x, arithmetic) : rounded(x, arithmetic);
}

for (const [kind, list] of Object.entries(cases)) {
  test(`products are those of the dequantized weight: ${kind}`, (t) => {
    for (const [index, { spec, arithmetic }] of list.entries()) {
      for (const [tokens, outputs, inputs] of realGpu && !onlySmall ? [...shapes, ...largeShapes] : shapes) {
        tidy(() => {
          const packed = packWeight(randomTensor([outputs, inputs], index), spec);
          const x = randomTensor([tokens, inputs], index + 50);
          const expected = linear(operand(x, arithmetic), unpackWeight(packed).weight).toArray();
          using weight = DeviceWeight.from(packed, { arithmetic });
          const device = DeviceTensor.from(x, activationType(arithmetic));
          for (const batchInvariant of [false, true]) {
            const y = deviceLinear(device, weight, { batchInvariant });
            t.is(y.type, activationType(arithmetic));
            const what = `${spec}, (${tokens}, ${outputs}, ${inputs})${batchInvariant ? ", batch invariant" : ""}`;
            assertClose(t, y.toTensor().toArray(), expected, tolerance(arithmetic, spec), what);
          }
        });
      }
    }
  });
}

test("numbers of inputs that are no multiple of 8", (t) => {
  for (const [index, { spec, arithmetic }] of [
    ...inArithmetic("bfloat16", "float32", "int4", "int3/g32", "int4+2:4", "uint4/g32", "int1"),
    ...inArithmetic("float16", "int8", "float32+2:4"),
    ...inArithmetic("int8", "int8", "int4+2:4", "uint8", "int4/g32"),
    ...inArithmetic("float8", "float32"),
  ].entries()) {
    for (const [tokens, outputs, inputs] of [
      [3, 20, 1],
      [5, 20, 77 + (index % 7)],
      [67, 20, 129 + (index % 7)],
    ] as const) {
      tidy(() => {
        const packed = packWeight(randomTensor([outputs, inputs], index), spec);
        const x = randomTensor([tokens, inputs], index + 50);
        const expected = linear(operand(x, arithmetic), unpackWeight(packed).weight).toArray();
        using weight = DeviceWeight.from(packed, { arithmetic });
        const device = DeviceTensor.from(x, activationType(arithmetic));
        const what = `${spec} in ${arithmetic}, (${tokens}, ${outputs}, ${inputs})`;
        assertClose(t, deviceLinear(device, weight).toTensor().toArray(), expected, 2 * tolerance(arithmetic, spec), what);
      });
    }
  }
});

test("rows of any length are rounded to codes of their range", (t) => {
  // Negative values alone: the zeros behind a row are no part of its range.
  for (const columns of [1, 5, 12, 131]) {
    const [rows, limit] = [3, -1];
    const values = randomValues(rows * columns, columns).map((value) => limit - Math.abs(value));
    const x = rounded(Tensor.from(values, [rows, columns]), "bfloat16").toArray();
    tidy(() => {
      const { codes, scales } = quantizeRows(DeviceTensor.from(Tensor.from(values, [rows, columns])), "int8-asymmetric");
      const [actual, coding] = [codes.toTensor().toArray(), scales.toTensor().toArray()];
      for (let row = 0; row < rows; row++) {
        const of = x.subarray(row * columns, (row + 1) * columns);
        const [scale, offset] = [coding[row] as number, coding[rows + row] as number];
        const range = Math.max(...of) - Math.min(...of);
        if (range > 0) t.true(Math.abs(scale - range / 254) <= range * 1e-5, `${columns} columns: scale ${scale}`);
        of.forEach((value, i) => {
          const back = (actual[row * columns + i] as number) * scale + offset;
          t.true(Math.abs(back - value) <= 0.51 * scale + 1e-6, `${columns} columns: ${back}, not ${value}`);
        });
      }
    });
  }
});

test("a token's result depends neither on the other tokens nor, batch invariant, on their number", (t) => {
  const [tokens, outputs, inputs] = [realGpu && !onlySmall ? 700 : 21, 72, 256];
  for (const { spec, arithmetic } of [
    { spec: "int4+2:4", arithmetic: "bfloat16" },
    { spec: "int4", arithmetic: "float16" },
    { spec: "int8", arithmetic: "int8" },
  ] as const) {
    tidy(() => {
      using weight = DeviceWeight.from(packWeight(randomTensor([outputs, inputs], 6), spec), { arithmetic });
      const x = randomTensor([tokens, inputs], 5);
      const multiply = (rows: Tensor): Float32Array =>
        deviceLinear(DeviceTensor.from(rows, activationType(arithmetic)), weight, { batchInvariant: true })
          .toTensor()
          .toArray();
      const all = multiply(x);
      t.deepEqual(multiply(x), all);
      for (const [begin, end] of [
        [0, 1],
        [3, 8],
        [1, 19],
        [tokens - 2, tokens],
      ] as const) {
        t.deepEqual(
          multiply(x.rows(begin, end)),
          all.slice(begin * outputs, end * outputs),
          `${spec} in ${arithmetic}, tokens ${begin} to ${end}`,
        );
      }
    });
  }
});

test("rows are rounded to codes as on the CPU", (t) => {
  const [rows, columns] = [5, 40];
  const values = randomValues(rows * columns, 9);
  values.fill(0, columns, 2 * columns);
  values[3 * columns + 7] = NaN;
  const x = rounded(Tensor.from(values, [rows, columns]), "bfloat16").toArray();
  for (const [type, highest] of [
    ["int8", 127],
    ["int4", 7],
  ] as const)
    tidy(() => {
      const { codes, scales } = quantizeRows(DeviceTensor.from(Tensor.from(values, [rows, columns])), type);
      const [actual, scaleValues] = [codes.toTensor().toArray(), scales.toTensor().toArray()];
      for (let row = 0; row < rows; row++) {
        const of = x.subarray(row * columns, (row + 1) * columns);
        const largest = of.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        if (row === 3) t.true(Number.isNaN(scaleValues[row]));
        else t.true(Math.abs((scaleValues[row] as number) - largest / highest) <= largest * 1e-6);
        for (let i = 0; i < columns; i++) {
          const exact = row === 3 || largest === 0 ? 0 : ((of[i] as number) * highest) / largest;
          t.true(Math.abs((actual[row * columns + i] as number) - exact) <= 0.5001, `${type}: row ${row}, column ${i}`);
        }
      }
    });
});

test("rows of float16 have the codes that the same values have in bfloat16", (t) => {
  const [rows, columns] = [4, 40];
  const values = randomValues(rows * columns, 3).map((value) => Math.round(64 * value) / 64); // both hold these
  for (const type of ["int8", "int8-asymmetric", "int4", "float8"] as const) {
    tidy(() => {
      const x = Tensor.from(values, [rows, columns]);
      const [narrow, usual] = (["float16", "bfloat16"] as const).map((of) => quantizeRows(DeviceTensor.from(x, of), type));
      t.deepEqual(narrow?.codes.toTensor().toArray(), usual?.codes.toTensor().toArray(), type);
      t.deepEqual(narrow?.scales.toTensor().toArray(), usual?.scales.toTensor().toArray(), type);
    });
  }
});

test("streams, no tokens, and no memory left behind", (t) => {
  using weight = DeviceWeight.from(packWeight(randomTensor([64, 64], 1), "int4"));
  const x = randomTensor([4, 64], 2);
  const expected = tidy(() => deviceLinear(DeviceTensor.from(x), weight).toTensor()).toArray();
  using stream = new DeviceStream();
  const before = gpuMemoryStatistics().bytesInUse;
  for (let repeat = 0; repeat < 5; repeat++) {
    tidy(() => {
      const onStream = DeviceTensor.from(x, "bfloat16", stream);
      t.deepEqual(deviceLinear(onStream, weight, { stream }).toTensor(stream).toArray(), expected);
      t.deepEqual(deviceLinear(onStream, weight).toTensor(stream).toArray(), expected);
      t.deepEqual(deviceLinear(DeviceTensor.zeros([0, 64]), weight).toTensor().shape, [0, 64]);
    });
  }
  t.true(gpuMemoryStatistics().bytesInUse - before <= 4 * 4096 * 2); // the streams' counters
});

test("misuse is a coded error", (t) => {
  const invalid = { instanceOf: UsmLiteError, code: "INVALID_ARGUMENT" };
  const packed = packWeight(randomTensor([32, 64], 1), "int8");
  const weight = DeviceWeight.from(packed);
  using whole = DeviceWeight.from(packed, { arithmetic: "int8" });
  using gated = DeviceWeight.from(packed, { glu: true });
  tidy(() => {
    const x = DeviceTensor.zeros([2, 64]);
    t.throws(() => deviceLinear(DeviceTensor.zeros([2, 63]), weight), { ...invalid, message: /takes \(tokens, 64\)/ });
    t.throws(() => deviceLinear(DeviceTensor.zeros([64]), weight), invalid);
    t.throws(() => deviceLinear(DeviceTensor.zeros([2, 64], "float16"), weight), { ...invalid, message: /cast it/ });
    t.throws(() => deviceLinear(DeviceTensor.zeros([2, 64], "int8"), whole), { ...invalid, message: /scale for each/ });
    t.throws(() => deviceLinear(DeviceTensor.zeros([2, 64], "float32"), whole), { ...invalid, message: /quantizeRows/ });
    t.throws(() => deviceLinear(x, weight, { activation: "glu" }), { ...invalid, message: /glu: true/ });
    t.throws(() => deviceLinear(x, gated), { ...invalid, message: /arranged for the activation glu/ });
    t.throws(() => deviceLinear(x, weight, { activation: "tanh" as "relu" }), { ...invalid, message: /choose none/ });
    t.throws(() => deviceLinear(x, weight, { bias: DeviceTensor.zeros([32], "float32") }), { ...invalid, message: /arrangeBias/ });
    t.throws(() => deviceLinear(x, weight, { residual: DeviceTensor.zeros([2, 31]) }), { ...invalid, message: /residual must be/ });
    t.throws(() => deviceLinear(x, weight, { scale: NaN }), invalid);
    t.throws(() => deviceLinear(x, { handle: x.handle } as unknown as DeviceWeight), { ...invalid, message: /weight on the GPU/ });
    t.throws(() => quantizeRows(DeviceTensor.zeros([64]), "int8"), { ...invalid, message: /rows and columns/ });
    t.throws(() => quantizeRows(x, "int2" as "int8"), { ...invalid, message: /choose int8, int8-asymmetric, int4 or float8/ });
    t.throws(() => DeviceWeight.from(packed, { arithmetic: "int8", activations: "float32" as "int8" }), {
      ...invalid,
      message: /choose int8, int8-asymmetric or int4/,
    });
    weight.dispose();
    t.throws(() => deviceLinear(x, weight), { instanceOf: UsmLiteError, code: "TENSOR_RELEASED" });
  });
});
