import test from "ava";
import {
  bitsPerWeight,
  magnitudeMask,
  packedBytes,
  packWeight,
  parseWeightSpec,
  Tensor,
  unpackWeight,
  UsmLiteError,
} from "../lib/operations.js";
import { randomTensor, randomValues } from "./gradient.js";
import { roundHalfEven } from "./round_half_even.js";
import { formats, sparsities } from "./weight_formats.js";

const shapes = [
  [1, 1],
  [3, 5],
  [7, 33],
  [5, 128],
  [2, 203],
  [4, 64, 1],
];

const nf4 = [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127];

/** Every level of a format, ascending. */
function levelsOf(format: string, bits: number): number[] {
  const range = (from: number, to: number, step: number): number[] =>
    Array.from({ length: (to - from) / step + 1 }, (_, i) => from + i * step);
  if (format === "nf4") return nf4;
  if (format === "ternary") return [-1, 0, 1];
  if (format === "int1") return [-1, 1];
  if (format.startsWith("uint")) return range(0, 2 ** bits - 1, 1);
  if (format.startsWith("midrise")) return range(1 - 2 ** bits, 2 ** bits - 1, 2);
  return range(1 - 2 ** (bits - 1), 2 ** (bits - 1) - 1, 1);
}

/** Scale and zero point of the weights of one group that are kept. */
function measure(format: string, levels: readonly number[], kept: readonly number[]): [scale: number, zeroPoint: number] {
  const highest = levels.at(-1) as number;
  if (kept.length === 0) return [1, 0];
  if (format.startsWith("uint")) {
    const [low, high] = [Math.min(...kept), Math.max(...kept)];
    const scale = Math.fround(Math.fround(high / highest) - Math.fround(low / highest));
    const zeroPoint = Math.fround(-low / scale);
    return scale === 0 || !Number.isFinite(zeroPoint) ? [1, -low] : [scale, zeroPoint];
  }
  const magnitudes = kept.map(Math.abs);
  const mean = format === "ternary" || format === "int1";
  const size = mean ? magnitudes.reduce((sum, value) => sum + value, 0) / kept.length : Math.max(...magnitudes) / highest;
  return [Math.fround(size) || 1, 0];
}

/** The definition, in plain float32 arithmetic. */
function expectedWeight(weight: Float32Array, columns: number, text: string): Float32Array {
  const { format, bits, groupSize = columns, sparsity } = parseWeightSpec(text);
  const mask = new Uint8Array(weight.length).fill(1);
  for (let row = 0; row < weight.length; row += columns) {
    for (let begin = 0; sparsity && begin < columns; begin += sparsity.of) {
      const group = [...weight.subarray(row + begin, row + Math.min(begin + sparsity.of, columns)).keys()];
      group.sort((a, b) => Math.abs(weight[row + begin + b] as number) - Math.abs(weight[row + begin + a] as number) || a - b);
      for (const i of group.slice(sparsity.kept)) mask[row + begin + i] = 0;
    }
  }
  if (format === "float32") return weight.map((w, i) => (mask[i] ? w : 0));
  const levels = levelsOf(format, bits);
  const nearest = (ratio: number): number => {
    const step = (levels[1] as number) - (levels[0] as number);
    const level = step === 1 || step === 2 ? step * roundHalfEven((ratio + 1 - step) / step) + step - 1 : NaN;
    return Math.min(Math.max(level, levels[0] as number), levels.at(-1) as number);
  };
  const nearestQuantile = (ratio: number): number =>
    nf4.reduce((best, level) => (Math.abs(level - ratio) < Math.abs(best - ratio) ? level : best));
  const result = new Float32Array(weight.length);
  for (let row = 0; row < weight.length; row += columns) {
    for (let begin = row; begin < row + columns; begin += groupSize) {
      const places = [...Array(Math.min(groupSize, row + columns - begin)).keys()].map((i) => begin + i).filter((i) => mask[i]);
      const [scale, zeroPoint] = measure(
        format,
        levels,
        places.map((i) => weight[i] as number),
      );
      for (const i of places) {
        const ratio = Math.fround(Math.fround((weight[i] as number) / scale) + zeroPoint);
        const level = format === "nf4" ? nearestQuantile(ratio) : nearest(ratio);
        result[i] = Math.fround(Math.fround(level - zeroPoint) * scale) + 0;
      }
    }
  }
  return result;
}

test("packing follows the definition and the round trip is exact, for every spec and shape", (t) => {
  for (const format of formats) {
    for (const sparsity of sparsities) {
      for (const [index, shape] of shapes.entries()) {
        const spec = format + sparsity;
        const weight = randomTensor(shape, index + 1);
        const packed = packWeight(weight, spec);
        const { codes, scales, mask } = packedBytes(spec, shape[0] as number, shape[1] as number);
        t.is(packed.packed.size * (packed.packed.dtype === "uint8" ? 1 : 4), codes);
        t.is(((packed.scale?.size ?? 0) + (packed.zeroPoint?.size ?? 0)) * 4, scales);
        t.is(packed.mask?.size ?? 0, mask);
        const unpacked = unpackWeight(packed);
        t.deepEqual(unpacked.weight.shape, shape);
        t.deepEqual(unpacked.weight.toArray(), expectedWeight(weight.toArray(), shape[1] as number, spec), `${spec} (${shape})`);
      }
    }
  }
});

test("the sizes of the format", (t) => {
  t.deepEqual(packedBytes("int4+2:4", 256, 1024), { codes: 65536, scales: 1024, mask: Math.ceil((256 * 256) / 3) });
  t.deepEqual(packedBytes("int3", 2, 33), { codes: 32, scales: 8, mask: 0 });
  t.deepEqual(packedBytes("int4+1:4", 3, 10), { codes: 5, scales: 12, mask: 3 });
  t.deepEqual(packedBytes("int2/g32", 4, 40), { codes: 48, scales: 32, mask: 0 });
  t.deepEqual(packedBytes("ternary/g32", 2, 43), { codes: 2 * 9, scales: 16, mask: 0 });
  t.deepEqual(packedBytes("ternary+2:4", 3, 10), { codes: 4, scales: 12, mask: 3 });
  t.deepEqual(packedBytes("int1", 2, 33), { codes: 16, scales: 8, mask: 0 });
  t.deepEqual(packedBytes("uint4/g32", 2, 64), { codes: 64, scales: 32, mask: 0 });
  const { codes, mask } = packedBytes("int4+2:4", 144, 576);
  t.true(((codes + mask) * 8) / (144 * 576) <= 2.67);
  t.true(bitsPerWeight("int4+2:4", 1024, 1024) / 32 < 0.094);
});

test("the bytes of the format", (t) => {
  // Codes 7, -7, 1, 0 are stored as 15, 1, 9, 8 from the lowest bits up.
  const dense = packWeight(Tensor.from([7, -7, 1, 0, 3, 2, -1, -2, 4], [1, 9]), "int4");
  t.deepEqual(
    [...dense.packed.toInt32Array()].map((word) => (word >>> 0).toString(16)),
    ["67ab891f", "c"],
  );
  t.deepEqual([...(dense.scale as Tensor).toArray()], [1]);
  // Masks 0011, 1100, 1001 have ranks 0, 5, 3.
  const sparse = packWeight(Tensor.from([7, -7, 1, 0, 0, 1, 3, 2, 5, 0, 1, -4], [1, 12]), "int4+2:4");
  t.deepEqual([...(sparse.mask as Tensor).toArray()], [0 + 6 * 5 + 36 * 3]);
  t.deepEqual([...sparse.packed.toArray()], [0x1f, 0xab, 0x4d]);
  // Trits 1, -1, 0, 0, 1 are the digits 2, 0, 1, 1, 2; then -1.
  const ternary = packWeight(Tensor.from([2, -2, 0.1, 0, 2, -2], [1, 6]), "ternary");
  t.deepEqual([...ternary.packed.toArray()], [2 + 0 + 9 + 27 + 2 * 81, 0]);
  const asymmetric = packWeight(Tensor.from([-1, 0, 1, 2], [1, 4]), "uint2");
  t.deepEqual(
    [asymmetric.scale, asymmetric.zeroPoint].map((tensor) => [...(tensor as Tensor).toArray()]),
    [[1], [1]],
  );
  t.deepEqual([...asymmetric.packed.toInt32Array()], [0 + (1 << 2) + (2 << 4) + (3 << 6)]);
  // Levels -3, -1, 1, 3 of two bits.
  const midRise = packWeight(Tensor.from([3, -3, 0.5, -0.5, 0], [1, 5]), "midrise2");
  t.deepEqual([...midRise.packed.toInt32Array()], [3 + (0 << 2) + (2 << 4) + (1 << 6) + (2 << 8)]);
});

test("magnitude masks break ties to the lower index and cut the last group", (t) => {
  t.deepEqual([...magnitudeMask(Tensor.from([1, -1, 1, 1, 0, 0, 0, 2, -3, 5], [1, 10]), 2, 4).toArray()], [1, 1, 0, 0, 1, 0, 0, 1, 1, 1]);
  t.deepEqual([...magnitudeMask(Tensor.from([1, 2, 3, 4, 5, 6], [1, 6, 1]), 1, 4).toArray()], [0, 0, 0, 1, 0, 1]);
  t.throws(() => magnitudeMask(Tensor.zeros([2, 4]), 4, 4), { code: "INVALID_ARGUMENT" });
  // Adjacent inputs of a convolution (out, in, kernel) are those of one tap.
  t.deepEqual([...magnitudeMask(Tensor.from([1, 8, 2, 7, 3, 6, 4, 5], [1, 4, 2]), 2, 4).toArray()], [0, 1, 0, 1, 1, 0, 1, 0]);
  t.throws(() => magnitudeMask(Tensor.zeros([2, 4, 3, 1]), 2, 4), { code: "INVALID_ARGUMENT", message: /\(out, in\)/ });
});

test("a mask from training is kept, also where it keeps fewer than N", (t) => {
  const weight = Tensor.from([1, 2, 3, 4, 5, 6, 7, 8], [1, 8]);
  const packed = packWeight(weight, "int8+2:4", Tensor.from([1, 1, 0, 0, 0, 0, 0, 1], [1, 8], "uint8"));
  const { weight: values, mask } = unpackWeight(packed);
  t.deepEqual([...mask.toArray()], [1, 1, 0, 0, 1, 0, 0, 1]);
  t.deepEqual(
    [...values.toArray()].map((value) => Math.round(value * 10) / 10),
    [1, 2, 0, 0, 0, 0, 0, 8],
  );
  t.throws(() => packWeight(weight, "int8+2:4", Tensor.from([1, 1, 1, 0, 0, 0, 0, 1], [1, 8], "uint8")), {
    code: "INVALID_ARGUMENT",
    message: /keeps 3 of the 4 inputs from 0 on/,
  });
  const fewer = Tensor.from([1, 1, 0, 0, 0, 0, 0, 1], [1, 8], "uint8");
  for (const spec of ["int1+2:4", "midrise4+2:4", "uint4+2:4"]) {
    t.throws(() => packWeight(weight, spec, fewer), { code: "INVALID_ARGUMENT", message: /which has no zero, keeps 2/ });
  }
  t.is(
    unpackWeight(packWeight(weight, "ternary+2:4", fewer))
      .weight.toArray()
      .filter((value) => value !== 0).length,
    2,
  );
  t.throws(() => packWeight(weight, "int8", Tensor.zeros([1, 8], "uint8")), { code: "INVALID_ARGUMENT", message: /takes no mask/ });
  t.throws(() => packWeight(weight, "int8+2:4", Tensor.zeros([1, 4], "uint8")), { code: "INVALID_ARGUMENT" });
});

test("extreme weights", (t) => {
  const tiny = 1e-45; // smallest denormal: the scale underflows to zero and becomes one
  for (const values of [
    [0, 0, 0, 0],
    [tiny, -tiny, 0, 0],
    [3.4e38, -3.4e38, 1, 0],
    [1e-40, 2e-40, -3e-40, 4e-40],
  ]) {
    const weight = Tensor.from(values, [1, 4]);
    for (const spec of ["int8", "int4", "int2", "int4+2:4", "ternary", "int1", "nf4", "midrise4", "uint4", "uint4+2:4"]) {
      t.deepEqual(
        unpackWeight(packWeight(weight, spec)).weight.toArray(),
        expectedWeight(weight.toArray(), 4, spec),
        `${spec} of ${values}`,
      );
    }
  }
  for (const value of [NaN, Infinity, -Infinity]) {
    t.throws(() => packWeight(Tensor.from([1, value], [1, 2]), "int4"), { code: "INVALID_ARGUMENT", message: /finite/ });
  }
  t.throws(() => packWeight(Tensor.zeros([0, 4]), "int4"), { code: "INVALID_ARGUMENT", message: /empty/ });
});

test("hostile bytes are refused", (t) => {
  const bad = { instanceOf: UsmLiteError, code: "BAD_CHECKPOINT" };
  const weight = Tensor.from(randomValues(3 * 10, 1), [3, 10]);
  const packed = packWeight(weight, "int4+2:4");
  const bytes = (tensor: Tensor | undefined): Uint8Array => tensor?.toArray() as unknown as Uint8Array;
  const changed = (tensor: Tensor | undefined, at: number, value: number): Tensor => {
    const copy = bytes(tensor).slice();
    copy[at] = value;
    return Tensor.from(copy, tensor?.shape);
  };
  for (const spec of ["int4", "int8+2:4", "int4+1:4", "2:4"]) {
    t.throws(() => unpackWeight({ ...packed, spec }), bad, spec);
  }
  t.throws(() => unpackWeight({ ...packed, shape: [3, 14] }), { ...bad, message: /needs/ });
  t.throws(() => unpackWeight({ ...packed, shape: [10] }), { ...bad, message: /weight_shape/ });
  t.throws(() => unpackWeight({ ...packed, shape: [3, 10, 2] }), bad);
  t.throws(() => unpackWeight({ ...packed, packed: Tensor.zeros([5], "uint8") }), { ...bad, message: /weight_packed has 5 bytes/ });
  const { packed: _codes, ...withoutCodes } = packed;
  t.throws(() => unpackWeight(withoutCodes as typeof packed), { ...bad, message: /no weight_packed/ });
  const { mask: _, ...withoutMask } = packed;
  t.throws(() => unpackWeight(withoutMask), { ...bad, message: /weight_mask has 0 bytes/ });
  t.throws(() => unpackWeight({ ...packed, mask: changed(packed.mask, 0, 216) }), { ...bad, message: /rank/ });
  t.throws(() => unpackWeight({ ...packed, packed: changed(packed.packed, 0, 0) }), { ...bad, message: /code -8 is outside \+-7/ });
  for (const scale of [0, -1, NaN, Infinity]) {
    t.throws(() => unpackWeight({ ...packed, scale: Tensor.from([1, scale, 1], [3, 1]) }), { ...bad, message: /weight_scale/ });
  }
  // The third group of a row has only its inputs 8 and 9; mask 1100 with codes other than zero reaches beyond.
  const wide = packWeight(Tensor.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [1, 12]), "int4+2:4");
  t.throws(() => unpackWeight({ ...wide, shape: [1, 10] }), { ...bad, message: /beyond the last of 10 inputs/ });
  const floats = packWeight(weight, "2:4");
  t.throws(() => unpackWeight({ ...floats, packed: Tensor.from(floats.packed.toArray().fill(NaN), floats.packed.shape) }), {
    ...bad,
    message: /NaN/,
  });
  const ternary = packWeight(weight, "ternary");
  t.throws(() => unpackWeight({ ...ternary, packed: changed(ternary.packed, 3, 243) }), { ...bad, message: /row 1: byte 243/ });
  const asymmetric = packWeight(weight, "uint4");
  t.throws(() => unpackWeight({ ...asymmetric, zeroPoint: Tensor.from([1, NaN, 1], [3, 1]) }), { ...bad, message: /weight_zero_point/ });
  const { zeroPoint: __, ...withoutZeroPoint } = asymmetric;
  t.throws(() => unpackWeight(withoutZeroPoint), { ...bad, message: /weight_zero_point has 0 bytes/ });
  const rank = packWeight(Tensor.from(randomValues(10, 1), [1, 10]), "int4+3:5"); // ten masks in four bits
  t.throws(() => unpackWeight({ ...rank, mask: changed(rank.mask, 0, 0xfa) }), { ...bad, message: /rank 10; there are only 10/ });
});
