/** Whole numbers with groups, zero points and asymmetric activations on the GPU: what the CPU multiplies, the GPU does. */
import { assertClose, onlySmall, RandomIntegers, realGpu } from "./gpu.js";
import test from "ava";
import {
  type Arithmetic,
  type DeviceActivation,
  deviceLinear,
  DeviceTensor,
  DeviceWeight,
  linear,
  PackedMatrix,
  packedLinear,
  packWeight,
  quantizeRows,
  Tensor,
  tidy,
  unpackWeight,
  UsmLiteError,
} from "../lib/operations.js";
import type { IntegerActivations } from "../lib/device/device_weight.js";
import { roundRows } from "../lib/quant/activation_coding.js";
import { randomTensor, randomValues } from "./gradient.js";

const codings: readonly IntegerActivations[] = ["int8", "int8-asymmetric", "int4"];

/** Those that the kernels with one scale per channel multiply: of interest with asymmetric activations alone. */
const plain = ["int8", "int4", "int2", "int1", "nf4", "midrise3", "int8+2:4", "int4+2:4", "int4+1:4", "int1+2:4"];
const grouped = [
  ...["int4/g32", "int8/g64", "int4/g128", "nf4/g64", "ternary/g128", "int1/g32", "midrise2/g64", "int4/g64/dq"],
  ...["uint8", "uint4", "uint3/g32", "uint2/g64", "uint6/g128", "midrise8", "midrise8/g32"],
  ...["int4/g32+2:4", "int8/g64+3:4", "uint4+2:4", "uint8/g64+2:4", "uint2/g32+1:4", "uint4/g128+4:8"],
  ...["midrise8+2:4", "midrise8/g64+1:4"],
];

const mapped = (x: Tensor, change: (value: number, i: number) => number): Tensor => Tensor.from(x.toArray().map(change), x.shape);

/** x as the GPU has it: bfloat16. */
const narrow = (x: Tensor): Tensor => DeviceTensor.from(x).toTensor();

/** y is the float32 result of the CPU but for one rounding to bfloat16, and the order in which few floats are added. */
function assertRounded(t: Parameters<typeof assertClose>[0], y: Float32Array, expected: Float32Array, what: string): void {
  const least = 2e-6 * expected.reduce((largest, value) => Math.max(largest, Math.abs(value)), 0);
  const wrong = expected.findIndex((value, i) => !(Math.abs((y[i] as number) - value) <= 2 ** -8 * Math.abs(value) + least));
  t.is(wrong, -1, `${what}: element ${wrong} is ${y[wrong]}, not ${expected[wrong]}`);
  t.is(y.length, expected.length, what);
}

test("products are those of the CPU, whatever the codes and the activations", (t) => {
  const random = new RandomIntegers(3);
  for (const [index, spec] of [...plain, ...grouped].entries()) {
    for (const activations of plain.includes(spec) ? (["int8-asymmetric"] as const) : codings) {
      const below = realGpu && !onlySmall ? 200 : 36;
      const [tokens, outputs] = [1 + random.below(below), 1 + random.below(2 * below)];
      const inputs = 8 * (1 + random.below(below));
      tidy(() => {
        // Far from zero for some rows, so that zero points count.
        const values = mapped(randomTensor([outputs, inputs], index), (value, i) => value + 0.3 * (Math.floor(i / inputs) % 3));
        const packed = packWeight(values, spec);
        const x = narrow(mapped(randomTensor([tokens, inputs], index + 50), (value, i) => value + (Math.floor(i / inputs) % 4)));
        using matrix = PackedMatrix.from(packed, activations);
        using weight = DeviceWeight.from(packed, { arithmetic: "int8", activations });
        t.is(weight.activations, activations);
        const expected = packedLinear(x, matrix).toArray();
        for (const batchInvariant of [false, true]) {
          const y = deviceLinear(DeviceTensor.from(x), weight, { batchInvariant }).toArray();
          assertRounded(t, y, expected, `${spec} by ${activations}, (${tokens}, ${outputs}, ${inputs}), ${batchInvariant}`);
        }
      });
    }
  }
});

test("bias, activation, scale and residual follow", (t) => {
  for (const spec of ["int8", "int4+2:4", "uint4", "int4/g32"]) {
    for (const activation of ["none", "silu", "glu"] as const satisfies readonly DeviceActivation[]) {
      for (const tokens of [5, 67]) {
        tidy(() => {
          const [rows, inputs] = [48, 72];
          const outputs = activation === "glu" ? rows / 2 : rows;
          const packed = packWeight(randomTensor([rows, inputs], 4), spec);
          const [x, residual] = [randomTensor([tokens, inputs], 5), randomTensor([tokens, outputs], 7)].map(narrow) as [Tensor, Tensor];
          const bias = randomTensor([rows], 6);
          using matrix = PackedMatrix.from(packed, "int8-asymmetric");
          const options = { activation, scale: 0.5, residualScale: -1.5 };
          const expected = packedLinear(x, matrix, { ...options, bias, residual }).toArray();
          using weight = DeviceWeight.from(packed, { arithmetic: "int8", activations: "int8-asymmetric", glu: activation === "glu" });
          const onGpu = { ...options, bias: weight.arrangeBias(bias), residual: DeviceTensor.from(residual) };
          for (const batchInvariant of [false, true]) {
            const y = deviceLinear(DeviceTensor.from(x), weight, { ...onGpu, batchInvariant }).toArray();
            assertClose(t, y, expected, 2 ** -8, `${spec}, ${activation}, ${tokens} tokens`);
          }
        });
      }
    }
  }
});

test("a token's result depends neither on the other tokens nor on their number", (t) => {
  const [tokens, outputs, inputs] = [realGpu && !onlySmall ? 700 : 71, 72, 200];
  for (const spec of ["int8", "int4+2:4", "uint2/g64", "int4/g32"]) {
    tidy(() => {
      const packed = packWeight(randomTensor([outputs, inputs], 6), spec);
      using weight = DeviceWeight.from(packed, { arithmetic: "int8", activations: "int8-asymmetric" });
      const x = randomTensor([tokens, inputs], 5);
      const multiply = (rows: Tensor): Float32Array => deviceLinear(DeviceTensor.from(rows), weight, { batchInvariant: true }).toArray();
      const all = multiply(x);
      using matrix = PackedMatrix.from(packed, "int8-asymmetric");
      assertRounded(t, all, packedLinear(narrow(x), matrix).toArray(), spec); // stored in whole boxes where the GPU can
      for (const [begin, end] of [
        [0, 1],
        [3, 11],
        [tokens - 66, tokens],
      ] as const) {
        t.deepEqual(multiply(x.rows(begin, end)), all.slice(begin * outputs, end * outputs), `${spec}, tokens ${begin} to ${end}`);
      }
    });
  }
});

test("the codes of nibbles and of bytes give the same bits, and stacked weights those of their parts", (t) => {
  tidy(() => {
    const x = DeviceTensor.from(randomTensor([9, 96], 1));
    const values = [1, 2].map((seed) => randomTensor([64, 96], seed));
    const make = (index: number): DeviceWeight =>
      DeviceWeight.from(packWeight(values[index] as Tensor, "uint4/g32+2:4"), { arithmetic: "int8", activations: "int8-asymmetric" });
    const [first, second] = [make(0), make(1)];
    const alone = [first, second].map((weight) => deviceLinear(x, weight).toArray());
    using whole = DeviceWeight.stack([first, second]);
    const together = deviceLinear(x, whole).toArray();
    for (const [index, weight] of [first, second].entries()) {
      t.deepEqual(deviceLinear(x, weight).toArray(), alone[index]);
      const columns = Float32Array.from({ length: 9 * 64 }, (_, i) => together[Math.floor(i / 64) * 128 + 64 * index + (i % 64)] as number);
      t.deepEqual(columns, alone[index]);
    }
    t.true(first.read().kept.length > 0 && whole.read().zeroPoints.length === 2 * first.read().zeroPoints.length);
    for (const weight of [first, second]) weight.dispose();
  });
});

test("rows are coded as on the CPU, to the code", (t) => {
  const columns = 8400; // more than a block of threads keeps
  const rows = [
    randomValues(columns, 1),
    randomValues(columns, 2).map((value) => value * 1e-3 + 7),
    randomValues(columns, 3).map((value) => (value - 1.5) * 1e36),
    new Float32Array(columns),
    new Float32Array(columns).fill(-3.5),
    randomValues(columns, 4).map((value, i) => (i === columns - 1 ? 1e4 : value)),
    randomValues(columns, 5).map((value, i) => (i === 8300 ? NaN : value)),
    randomValues(columns, 6).map((value, i) => (i === 3 ? -Infinity : value)),
    randomValues(columns, 7).map((value) => value * 1e-32),
  ];
  for (const width of [columns, 8, 264]) {
    tidy(() => {
      const x = narrow(Tensor.from(Float32Array.from(rows.flatMap((row) => [...row.subarray(columns - width)])), [rows.length, width]));
      const values = x.toArray();
      const { codes, scales } = quantizeRows(DeviceTensor.from(x), "int8-asymmetric");
      t.deepEqual(scales.shape, [2, rows.length]);
      const [found, ofRows] = [codes.toArray(), scales.toArray()];
      const seen = roundRows(x, "int8-asymmetric").toArray();
      for (let row = 0; row < rows.length; row++) {
        const of = values.subarray(row * width, (row + 1) * width);
        const [scale, offset] = [ofRows[row] as number, ofRows[rows.length + row] as number];
        const expected = codesOf(of);
        t.deepEqual([...found.subarray(row * width, (row + 1) * width)], expected, `row ${row} of ${width}`);
        const largest = of.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
        expected.forEach((code, i) => {
          const [value, wanted] = [code * scale + offset, seen[row * width + i] as number];
          if (Number.isNaN(wanted) ? !Number.isNaN(value) : !(Math.abs(value - wanted) <= 1e-6 * largest))
            t.fail(`row ${row} of ${width}, column ${i}: ${value}, not ${wanted}`);
        });
      }
    });
  }
});

/** In float32 throughout, as native/cpu/reference/packed_matmul.cpp. */
function codesOf(row: Float32Array): number[] {
  const f = Math.fround;
  const [low, high] = row.reduce<[number, number]>(([l, h], value) => [Math.min(l, value), Math.max(h, value)], [Infinity, -Infinity]);
  const scale = f(f(high / 254) - f(low / 254));
  if (!row.every(Number.isFinite) || scale < 1e-30) return [...row].map(() => 0);
  const inverse = f(1 / scale);
  const nearest = (value: number): number => {
    const whole = Math.round(value);
    return Math.abs(value % 1) === 0.5 && whole % 2 !== 0 ? whole - 1 : whole;
  };
  return [...row].map((value) => nearest(Math.min(f(f(value - low) * inverse), 254)) - 127);
}

test("extremes: NaN, infinity and constants stay in their rows, the largest codes overflow nowhere", (t) => {
  const [outputs, inputs] = [20, 2048];
  const values = new Float32Array(5 * inputs);
  values.fill(1e6, 0, inputs).fill(3, inputs, 4 * inputs);
  [values[inputs], values[2 * inputs + 5], values[3 * inputs + 7]] = [-3, NaN, Infinity];
  for (const spec of ["int8", "uint8", "uint4/g128", "midrise8", "int4/g32+2:4"]) {
    tidy(() => {
      // All weights at one end of the range, but for one: the largest sums that codes can make.
      const ones = Float32Array.from({ length: outputs * inputs }, (_, i) => (i % inputs ? 1 : -1));
      const packed = packWeight(Tensor.from(ones, [outputs, inputs]), spec);
      using matrix = PackedMatrix.from(packed, "int8-asymmetric");
      using weight = DeviceWeight.from(packed, { arithmetic: "int8", activations: "int8-asymmetric" });
      const x = narrow(Tensor.from(values, [5, inputs]));
      const [y, expected] = [deviceLinear(DeviceTensor.from(x), weight).toArray(), packedLinear(x, matrix).toArray()];
      for (let row = 0; row < 5; row++) {
        const [found, wanted] = [y, expected].map((all) => all.subarray(row * outputs, (row + 1) * outputs)) as [Float32Array, Float32Array];
        if (row === 2 || row === 3) t.true(found.every(Number.isNaN) && wanted.every(Number.isNaN), `${spec}, row ${row}`);
        else assertClose(t, found, wanted, 2 ** -8, `${spec}, row ${row}`);
      }
    });
  }
});

test("groups of one weight, or of equal ones, keep its precision, however far their zero point is from their levels", (t) => {
  for (const spec of ["uint5/g32+1:8", "uint8", "uint4/g32"]) {
    tidy(() => {
      const [rows, inputs] = [32, 64];
      const weights = Float32Array.from({ length: rows * inputs }, (_, i) => 1e-4 * Math.sin(1 + Math.floor(i / 32)));
      const packed = packWeight(Tensor.from(weights, [rows, inputs]), spec);
      const x = narrow(randomTensor([9, inputs], 2));
      using matrix = PackedMatrix.from(packed, "int8-asymmetric");
      using weight = DeviceWeight.from(packed, { arithmetic: "int8", activations: "int8-asymmetric" });
      assertRounded(t, deviceLinear(DeviceTensor.from(x), weight).toArray(), packedLinear(x, matrix).toArray(), spec);
    });
  }
});

test("weights that have no codes in arithmetic of 16 bits are floats there", (t) => {
  const specs = ["uint4", "uint2/g64", "uint8+2:4", "uint3/g32+1:4", "midrise8", "midrise8/g64+2:4", "int4+3:4", "int2+2:8"];
  for (const [index, spec] of specs.entries()) {
    for (const arithmetic of ["bfloat16", "float16"] as const satisfies readonly Arithmetic[]) {
      tidy(() => {
        const [tokens, outputs, inputs] = [index % 2 ? 3 : 67, 40, 200];
        // Beyond float16, were it not for the scale that each channel keeps.
        const size = arithmetic === "float16" && /^uint|midrise8/.test(spec) ? 1e6 : 1;
        const values = mapped(randomTensor([outputs, inputs], index), (value) => size * value);
        const packed = packWeight(values, spec);
        const x = DeviceTensor.from(
          mapped(randomTensor([tokens, inputs], index + 50), (value) => value / Math.sqrt(size)),
          arithmetic,
        );
        using weight = DeviceWeight.from(packed, { arithmetic });
        const expected = linear(x.toTensor(), unpackWeight(packed).weight).toArray();
        const tolerance = arithmetic === "float16" ? 2 ** -9 : 2 ** -7;
        assertClose(t, deviceLinear(x, weight).toArray(), expected, tolerance, `${spec} in ${arithmetic}`);
      });
    }
  }
});

test("misuse is a coded error", (t) => {
  tidy(() => {
    const [asymmetric, symmetric] = [DeviceTensor.zeros([2, 64]), DeviceTensor.zeros([2, 64])].map((x, i) =>
      quantizeRows(x, i ? "int8" : "int8-asymmetric"),
    ) as [ReturnType<typeof quantizeRows>, ReturnType<typeof quantizeRows>];
    using integers = DeviceWeight.ofIntegers("int8", 8, 64);
    t.throws(() => deviceLinear(asymmetric, integers), {
      instanceOf: UsmLiteError,
      code: "INVALID_ARGUMENT",
      message: /made for activations of int8-asymmetric/,
    });
    using packed = DeviceWeight.from(packWeight(randomTensor([8, 64], 1), "int8"), { arithmetic: "int8" });
    t.notThrows(() => deviceLinear(asymmetric, packed));
    t.throws(() => deviceLinear({ codes: symmetric.codes, scales: DeviceTensor.zeros([3, 2], "float32") }, packed), {
      code: "INVALID_ARGUMENT",
      message: /offsets below them/,
    });
    for (const arithmetic of ["int8", "float8"] as const) {
      const spec = arithmetic === "int8" ? "float32+2:4" : "uint4";
      t.throws(() => DeviceWeight.from(packWeight(randomTensor([8, 64], 1), spec), { arithmetic }), { code: "UNSUPPORTED_SPEC" });
    }
  });
});
