import { fromSmallFloat } from "./gpu.js";
import test from "ava";
import { type Arithmetic, DeviceWeight, packWeight, Tensor, unpackWeight, UsmLiteError } from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";

type Codes = "float" | "float8" | "int8" | "int4" | "int3" | "int2" | "int1" | "nf4" | "uint8" | "uint4" | "uint2";

const nf4Levels = [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127];
const tileBytes: Record<Codes, number> = {
  ...{ float: 2048, float8: 1024, int8: 1024, int4: 512, nf4: 512, int3: 384, int2: 256, int1: 128 },
  ...{ uint8: 1024, uint4: 512, uint2: 256 },
};

/** `count` bits from bit `bit` of word `word` of the lane's bytes in a plane that begins at `begin`. */
function field(tile: Uint8Array, begin: number, width: number, lane: number, word: number, bit: number, count: number): number {
  const view = new DataView(tile.buffer, tile.byteOffset + begin + lane * width + 4 * word, 4);
  return (view.getUint32(0, true) >>> bit) & (2 ** count - 1);
}

/** Value (step, r, i) of a lane, as the table of fragment_order.hpp places it. */
function valueOf(tile: Uint8Array, codes: Codes, arithmetic: Arithmetic, lane: number, step: number, r: number, i: number): number {
  if (arithmetic === "int8" || arithmetic === "float8") {
    if (codes === "int4") return (field(tile, 0, 16, lane, 2 * step + (r >> 1), 8 * i + 4 * (r % 2), 4) << 28) >> 28;
    const byte = field(tile, 512 * step, 16, lane, r, 8 * i, 8);
    return codes === "float8" ? fromSmallFloat(byte, 4, 3) : (byte << 24) >> 24;
  }
  const two = (): number => field(tile, 0, 8, lane, step >> 1, 16 * i + 2 * (r + 4 * (step % 2)), 2);
  const one = (begin: number): number => field(tile, begin, 4, lane, 0, 16 * i + r + 4 * step, 1);
  switch (codes) {
    case "float": {
      const bits = field(tile, 512 * step, 16, lane, r, 16 * i, 16);
      return arithmetic === "bfloat16" ? fromSmallFloat(bits, 8, 7) : fromSmallFloat(bits, 5, 10);
    }
    case "int8":
    case "uint8":
      return field(tile, 512 * (step >> 1), 16, lane, 2 * (step % 2) + (r >> 1), 8 * ((r % 2) + 2 * i), 8) - (codes === "int8" ? 128 : 0);
    case "int4":
    case "uint4":
      return field(tile, 0, 16, lane, step, 16 * i + 4 * r, 4) - (codes === "int4" ? 8 : 0);
    case "nf4":
      return nf4Levels[field(tile, 0, 16, lane, step, 16 * i + 4 * r, 4)] as number;
    case "int3":
      return two() + 4 * one(256) - 4;
    case "int2":
    case "uint2":
      return two() - (codes === "int2" ? 2 : 0);
    default:
      return one(0) ? 1 : -1;
  }
}

/** Place 0..3 of stored column `column` (0..63) of tile row `row` among its four inputs, from the metadata. */
function placeOf(metadata: Uint8Array, arithmetic: Arithmetic, row: number, column: number): number {
  const words = new DataView(metadata.buffer, metadata.byteOffset, 256);
  const [wide, g] = [arithmetic === "bfloat16" || arithmetic === "float16", row % 8];
  const lane = wide
    ? 4 * g + 2 * ((column >> 4) % 2) + ((column >> 3) % 2) // the step's selector, then the half of its 32 inputs
    : 4 * g + (row >> 3) + 2 * ((column >> 4) % 2);
  const word = words.getUint32(8 * lane + 4 * (column >> 5), true);
  const bits = wide ? word >>> (16 * (row >> 3)) : word;
  const pairs = wide ? 8 : 16; // stored columns whose places share the word's part
  return (bits >>> (2 * (column % pairs))) & 3;
}

/** The weight that the bytes on the GPU stand for, (rows, columns). */
function decode(weight: DeviceWeight, codes: Codes): Float32Array {
  const { tiles, metadata, groupScales, channelScales } = weight.read();
  const { rows, columns, arithmetic, glu, spec } = weight;
  const sparse = spec.includes("+");
  const groupSize = Number(/\/g(\d+)/.exec(spec)?.[1] ?? 0);
  const channels = glu ? 16 * Math.ceil(rows / 16) : rows;
  const [blocks, slices] = [Math.ceil(channels / 64), Math.ceil(columns / (sparse ? 128 : 64))];
  const wide = arithmetic === "bfloat16" || arithmetic === "float16";
  const scale16 = (bits: number): number => (arithmetic === "float16" ? fromSmallFloat(bits, 5, 10) : fromSmallFloat(bits, 8, 7));
  const zeroPoints = codes.startsWith("uint");
  const groups = groupSize ? Math.ceil(columns / groupSize) : zeroPoints ? 1 : 0;
  const bias = arithmetic === "float16" ? 1024 : codes === "uint8" ? -128 : 128;
  const scales16 = new Uint16Array(groupScales.slice().buffer);
  const scales32 = new Float32Array(channelScales.slice().buffer);
  if (tiles.length !== blocks * slices * 4 * tileBytes[codes]) throw new Error(`${tiles.length} bytes of tiles`);
  if (metadata.length !== (sparse ? blocks * slices * 4 * 256 : 0)) throw new Error(`${metadata.length} bytes of metadata`);
  const decoded = new Float32Array(rows * columns);
  for (let tile = 0; tile < blocks * slices * 4; tile++) {
    const [block, slice, part] = [Math.floor(tile / 4 / slices), Math.floor(tile / 4) % slices, tile % 4];
    const bytes = tiles.subarray(tile * tileBytes[codes], (tile + 1) * tileBytes[codes]);
    for (let lane = 0; lane < 32; lane++) {
      const [g, lanePart] = [lane >> 2, lane % 4];
      for (let step = 0; step < (wide ? 4 : 2); step++) {
        for (let r = 0; r < 4; r++) {
          for (let i = 0; i < (wide ? 2 : 4); i++) {
            const row = g + 8 * (r % 2);
            const column = wide ? 16 * step + 2 * lanePart + i + 8 * (r >> 1) : 32 * step + 4 * lanePart + i + 16 * (r >> 1);
            const value = valueOf(bytes, codes, arithmetic, lane, step, r, i);
            const place = sparse ? placeOf(metadata.subarray(tile * 256, (tile + 1) * 256), arithmetic, row, column) : 0;
            const input = sparse ? slice * 128 + 4 * (column >> 1) + place : slice * 64 + column;
            const channel = 64 * block + 16 * part + row;
            const of = glu ? 8 * (channel >> 4) + (channel % 8) + (row >= 8 ? rows / 2 : 0) : channel;
            const within = glu ? 8 * (channel >> 4) + (channel % 8) < rows / 2 : channel < rows;
            if (!within || input >= columns) {
              if (value !== 0 && codes !== "int1") throw new Error(`padding holds ${value}`);
              continue;
            }
            const group = groupSize ? Math.floor(input / groupSize) : 0;
            const ofGroup = (row: number): number =>
              scale16(scales16[((block * groups + group) * (zeroPoints ? 3 : 1) + row) * 64 + (channel % 64)] as number);
            const scaled = zeroPoints ? ofGroup(0) * (value + bias - ofGroup(1)) + ofGroup(2) : value * (groups ? ofGroup(0) : 1);
            decoded[of * columns + input] = (decoded[of * columns + input] as number) + scaled * (scales32[channel] ?? 1);
          }
        }
      }
    }
  }
  return decoded;
}

const cases: readonly (readonly [spec: string, arithmetic: Arithmetic, codes: Codes, tolerance: number])[] = [
  ["float32", "bfloat16", "float", 2 ** -8],
  ["float32", "float16", "float", 2 ** -11],
  ["float32", "float8", "float8", 2 ** -4],
  ["float32+2:4", "bfloat16", "float", 2 ** -8],
  ["float32+2:4", "float8", "float8", 2 ** -4],
  ["int8", "bfloat16", "int8", 0],
  ["int8", "int8", "int8", 0],
  ["int8+2:4", "float16", "int8", 0],
  ["int8+2:4", "int8", "int8", 0],
  ["int4", "bfloat16", "int4", 0],
  ["int4", "int8", "int4", 0],
  ["int4/g32", "bfloat16", "int4", 2 ** -8],
  ["int4/g64", "float16", "int4", 2 ** -11],
  ["int4/g128", "bfloat16", "int4", 2 ** -8],
  ["int4+2:4", "bfloat16", "int4", 0],
  ["int4+2:4", "int8", "int4", 0],
  ["int4/g32+2:4", "bfloat16", "int4", 2 ** -8],
  ["int4+1:4", "bfloat16", "int4", 0],
  ["int4+1:3", "int8", "int4", 0],
  ["int6", "bfloat16", "int8", 0],
  ["int3", "bfloat16", "int3", 0],
  ["int3/g64", "float16", "int3", 2 ** -11],
  ["int3", "int8", "int4", 0],
  ["int2", "bfloat16", "int2", 0],
  ["int2+2:4", "float16", "int2", 0],
  ["ternary", "bfloat16", "int2", 0],
  ["ternary/g128", "bfloat16", "int2", 2 ** -8],
  ["int1", "bfloat16", "int1", 0],
  ["int1/g128", "float16", "int1", 2 ** -11],
  ["int1+2:4", "bfloat16", "int2", 0],
  ["int3+2:4", "bfloat16", "int4", 0],
  ["nf4+2:4", "bfloat16", "int8", 0],
  ["int1+1:4", "bfloat16", "int2", 0],
  ["midrise2", "bfloat16", "int3", 0],
  ["midrise3", "bfloat16", "int4", 0],
  ["nf4", "bfloat16", "nf4", 0],
  ["nf4/g64", "bfloat16", "nf4", 2 ** -8],
  ["nf4", "int8", "int8", 0],
  ["uint8", "bfloat16", "uint8", 2 ** -9],
  ["uint6/g64", "float16", "uint8", 2 ** -10],
  ["uint4", "bfloat16", "uint4", 2 ** -9],
  ["uint4/g32", "bfloat16", "uint4", 2 ** -7],
  ["uint3/g128", "float16", "uint4", 2 ** -10],
  ["uint2", "float16", "uint2", 2 ** -12],
  ["uint2/g64", "bfloat16", "uint2", 2 ** -7],
  ["midrise8", "bfloat16", "uint8", 2 ** -9],
  ["uint8/g32+2:4", "bfloat16", "uint8", 2 ** -7],
  ["uint4+2:4", "float16", "uint4", 2 ** -12],
  ["uint2/g128+2:4", "bfloat16", "uint2", 2 ** -7],
  ["midrise8+2:4", "bfloat16", "uint8", 2 ** -9],
  ["uint4+1:4", "bfloat16", "float", 2 ** -8],
];

test("what lies on the GPU is the weight that was packed", (t) => {
  for (const [index, [spec, arithmetic, codes, tolerance]] of cases.entries()) {
    for (const [rows, columns, glu] of [
      [1, 1, false],
      [64, 128, false],
      [70, 200, false],
      [22, 131, true],
      [160, 64, true],
    ] as const) {
      const packed = packWeight(randomTensor([rows, columns], index), spec);
      const expected = unpackWeight(packed).weight.toArray();
      using weight = DeviceWeight.from(packed, { arithmetic, glu });
      t.is(weight.outputs, glu ? rows / 2 : rows);
      const decoded = decode(weight, codes);
      const largest = expected.map(Math.abs).reduce((a, b) => Math.max(a, b), 0);
      const allowed = (value: number): number =>
        codes === "float8"
          ? Math.max(Math.abs(value) / 16, largest / 448 / 1024)
          : (codes.startsWith("uint") ? largest : Math.abs(value)) * tolerance;
      const wrong = expected.findIndex((value, i) => !(Math.abs((decoded[i] as number) - value) <= allowed(value) * 1.0001 + 1e-30));
      t.is(wrong, -1, `${spec} in ${arithmetic} (${rows}, ${columns}): element ${wrong} is ${decoded[wrong]}, not ${expected[wrong]}`);
    }
  }
});

test("a bias takes the order of the channels", (t) => {
  const bias = Tensor.from(Float32Array.from({ length: 22 }, (_, i) => i + 1));
  const packed = packWeight(randomTensor([22, 8], 1), "int8");
  using plain = DeviceWeight.from(packed);
  using plainBias = plain.arrangeBias(bias);
  t.deepEqual([...plainBias.toTensor().toArray()].slice(0, 24), [...bias.toArray(), 0, 0]);
  t.deepEqual(plainBias.shape, [64]);
  using gated = DeviceWeight.from(packed, { glu: true });
  using gatedBias = gated.arrangeBias(bias);
  const expected = [1, 2, 3, 4, 5, 6, 7, 8, 12, 13, 14, 15, 16, 17, 18, 19, 9, 10, 11, 0, 0, 0, 0, 0, 20, 21, 22, 0];
  t.deepEqual([...gatedBias.toTensor().toArray()].slice(0, 28), expected);
});

test("weights that no kernel takes are coded errors", (t) => {
  const weight = randomTensor([6, 16], 1);
  const unsupported = { instanceOf: UsmLiteError, code: "UNSUPPORTED_SPEC" };
  const from =
    (spec: string, arithmetic: Arithmetic, glu = false) =>
    () =>
      DeviceWeight.from(packWeight(weight, spec), { arithmetic, glu });
  t.throws(from("float32", "int8"), { ...unsupported, message: /whole numbers/ });
  t.throws(from("int8", "float8"), { ...unsupported, message: /float32 weights/ });
  const odd = packWeight(randomTensor([5, 16], 1), "int4");
  t.throws(() => DeviceWeight.from(odd, { glu: true }), { ...unsupported, message: /even number of rows/ });
  const huge = packWeight(Tensor.from(Float32Array.of(1, 70000), [1, 2]), "float32");
  t.throws(() => DeviceWeight.from(huge, { arithmetic: "float16" }), { ...unsupported, message: /bfloat16/ });
  t.throws(() => DeviceWeight.from(odd, { arithmetic: "int2" as Arithmetic }), { code: "INVALID_ARGUMENT", message: /choose bfloat16/ });
  t.throws(() => DeviceWeight.from({ ...odd, shape: [5, 99] }), { code: "BAD_CHECKPOINT" });
  const disposed = DeviceWeight.from(odd);
  disposed.dispose();
  disposed.dispose();
  t.true(disposed.released);
  t.throws(() => disposed.read(), { instanceOf: UsmLiteError, code: "TENSOR_RELEASED" });
});

test("scales far from one keep their precision in float16", (t) => {
  for (const factor of [1e-12, 1e12]) {
    const values = randomValues(4 * 128, 3).map((value) => value * factor);
    const packed = packWeight(Tensor.from(values, [4, 128]), "int4/g64");
    const expected = unpackWeight(packed).weight.toArray();
    using weight = DeviceWeight.from(packed, { arithmetic: "float16" });
    const decoded = decode(weight, "int4");
    t.true(expected.every((value, i) => Math.abs((decoded[i] as number) - value) <= Math.abs(value) * 2 ** -11));
  }
});
