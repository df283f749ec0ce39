// Weights with zero points, and midrise8, in arithmetic of 16-bit floats: they stay at 8, 4 or 2 bits on the GPU.
import { assertClose } from "./gpu.js";
import { activationType, operand, product } from "./device_products.js";
import test from "ava";
import { type Arithmetic, deviceLinear, DeviceTensor, DeviceWeight, linear, packWeight, Tensor, tidy, unpackWeight } from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";

const formats = ["uint8", "uint6", "uint4", "uint3", "uint2", "midrise8"];
const specs = formats.flatMap((format) => ["", "/g32", "/g64", "/g128"].flatMap((group) => [format + group, `${format}${group}+2:4`]));

/** Relative to the largest output: y is rounded to 8 (bfloat16) or 11 bits, and so are weights and what their groups have. */
const tolerance = (arithmetic: Arithmetic): number => (arithmetic === "float16" ? 2 ** -9 : 2 ** -7);

test("products are those of the dequantized weight, whatever spec, arithmetic and kernel", (t) => {
  // The last shape has as many tokens as the kernel for few takes at once; numbers of inputs end within groups, slices and N:M groups.
  const shapes = [
    [1, 64, 64],
    [3, 70, 133],
    [9, 40, 264],
    [33, 24, 130],
  ] as const;
  for (const arithmetic of ["bfloat16", "float16"] as const) {
    for (const [index, spec] of specs.entries()) {
      const [tokens, outputs, inputs] = shapes[(index + (index >> 2)) % shapes.length] as (typeof shapes)[number];
      tidy(() => {
        const packed = packWeight(randomTensor([outputs, inputs], index), spec);
        const x = randomTensor([tokens, inputs], index + 50);
        const expected = linear(operand(x, arithmetic), unpackWeight(packed).weight).toArray();
        using weight = DeviceWeight.from(packed, { arithmetic });
        const device = DeviceTensor.from(x, activationType(arithmetic));
        const what = `${spec} in ${arithmetic}, (${tokens}, ${outputs}, ${inputs})`;
        assertClose(t, deviceLinear(device, weight).toTensor().toArray(), expected, tolerance(arithmetic), what);
        if (index % 2 === (arithmetic === "float16" ? 1 : 0) || spec.startsWith("uint2")) {
          assertClose(t, product(x, weight, arithmetic), expected, tolerance(arithmetic), `${what}, the kernel for many tokens`);
        }
      });
    }
  }
});

test("many tokens", (t) => {
  const [tokens, outputs, inputs] = [131, 72, 200];
  for (const [index, spec] of ["uint4/g64", "uint2/g32+2:4", "uint8+2:4", "midrise8"].entries()) {
    tidy(() => {
      const packed = packWeight(randomTensor([outputs, inputs], index), spec);
      const x = randomTensor([tokens, inputs], index + 9);
      using weight = DeviceWeight.from(packed);
      const expected = linear(operand(x, "bfloat16"), unpackWeight(packed).weight).toArray();
      assertClose(t, deviceLinear(DeviceTensor.from(x), weight).toTensor().toArray(), expected, tolerance("bfloat16"), spec);
    });
  }
});

/** Rows of (8, 128) weights that strain zero points. */
const extremes: Readonly<Record<string, (random: number, column: number) => number>> = {
  "zero point at the least code": (random) => Math.abs(random),
  "zero point at the greatest code": (random) => -Math.abs(random),
  "zero point far below the codes": (random) => 1 + random / 100,
  "zero point far above the codes": (random) => -3 + random / 1000,
  "one weight everywhere": () => -0.37,
  "one weight in each group of 32": (_, column) => [1e-3, -2, 0, 5][column >> 5] as number,
  zeros: () => 0,
  "least and greatest code alone": (random) => (random < 0 ? -1 : 0.25),
  "groups of different size": (random, column) => random * 10 ** -(column >> 5),
};

test("zero points within and beyond the codes, and groups of one code", (t) => {
  const [tokens, outputs, inputs] = [3, 8, 128];
  const x = randomTensor([tokens, inputs], 3);
  for (const [name, weightOf] of Object.entries(extremes)) {
    const random = randomValues(outputs * inputs, 7);
    const values = Tensor.from(
      random.map((value, i) => weightOf(value, i % inputs)),
      [outputs, inputs],
    );
    for (const arithmetic of ["bfloat16", "float16"] as const) {
      for (const spec of ["uint8", "uint4/g32", "uint2/g32+2:4", "uint2"]) {
        tidy(() => {
          const packed = packWeight(values, spec);
          const expected = linear(operand(x, arithmetic), unpackWeight(packed).weight).toArray();
          using weight = DeviceWeight.from(packed, { arithmetic });
          const y = deviceLinear(DeviceTensor.from(x, activationType(arithmetic)), weight).toTensor().toArray();
          // What a sum of such products may be off by, though they cancel out: each weight is rounded once.
          const allowed = unpackWeight(packed).weight.toArray().reduce((most, value) => Math.max(most, Math.abs(value)), 0) * Math.sqrt(inputs);
          const largest = Math.max(expected.map(Math.abs).reduce((a, b) => Math.max(a, b), 0), allowed, 1e-30);
          y.forEach((value, i) => {
            const error = Math.abs(value - (expected[i] as number)) / largest;
            t.true(error <= tolerance(arithmetic), `${name}, ${spec} in ${arithmetic}: ${value}, not ${expected[i]}`);
          });
        });
      }
    }
  }
});

test("pruned weights are exactly zero", (t) => {
  const inputs = 136;
  for (const spec of ["uint4+2:4", "uint2/g32+2:4", "midrise8+2:4", "uint4+1:4", "uint3/g64+2:8"]) {
    const packed = packWeight(randomTensor([16, inputs], 2), spec);
    const kept = (unpackWeight(packed).mask as Tensor).toArray();
    const ones = Tensor.from(
      Float32Array.from({ length: inputs * inputs }, (_, i) => (i % (inputs + 1) === 0 ? 1 : 0)),
      [inputs, inputs],
    );
    tidy(() => {
      using weight = DeviceWeight.from(packed);
      for (const y of [deviceLinear(DeviceTensor.from(ones.rows(0, 8)), weight).toTensor().toArray(), product(ones, weight, "bfloat16")]) {
        // y[input][row] is weight[row][input]
        const wrong = y.findIndex((value, i) => kept[(i % 16) * inputs + Math.floor(i / 16)] === 0 && value !== 0);
        t.is(wrong, -1, spec);
      }
    });
  }
});

test("a token's result is the same bits in batches of every size", (t) => {
  const [tokens, outputs, inputs] = [21, 72, 256];
  for (const spec of ["uint4/g64", "uint2+2:4"]) {
    tidy(() => {
      using weight = DeviceWeight.from(packWeight(randomTensor([outputs, inputs], 6), spec));
      const x = randomTensor([tokens, inputs], 5);
      const few = (rows: Tensor): Float32Array => deviceLinear(DeviceTensor.from(rows), weight).toTensor().toArray();
      for (const multiply of [few, (rows: Tensor) => product(rows, weight, "bfloat16")]) {
        const all = multiply(x);
        for (const [begin, end] of [
          [0, 1],
          [3, 8],
          [tokens - 2, tokens],
        ] as const) {
          t.deepEqual(multiply(x.rows(begin, end)), all.slice(begin * outputs, end * outputs), `${spec}, tokens ${begin} to ${end}`);
        }
      }
    });
  }
});

test("they take the memory of their bits", (t) => {
  const weight = randomTensor([64, 1024], 1);
  const bytes = (spec: string): number => {
    using device = DeviceWeight.from(packWeight(weight, spec));
    return device.bytes;
  };
  const float = bytes("float32");
  for (const [spec, bitsPerWeight] of [
    ["uint8", 8],
    ["uint4", 4],
    ["uint3", 4],
    ["uint2", 2],
    ["uint2/g64", 2 + 48 / 64],
    ["uint4+2:4", 3],
    ["midrise8", 8],
  ] as const) {
    t.true(bytes(spec) <= (float * bitsPerWeight) / 16 + 768, `${spec}: ${bytes(spec)} bytes, where 16 bits take ${float}`); // and what a channel has
  }
});
