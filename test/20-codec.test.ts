import test from "ava";
import {
  bitsPerWeight,
  formatWeightSpec,
  magnitudeMask,
  packedBytes,
  packWeight,
  parseWeightSpec,
  Tensor,
  unpackWeight,
  UsmLiteError,
} from "../lib/index.js";
import { randomTensor, randomValues } from "./gradient.js";

const formats = ["float32", "int8", "int4", "int3", "int2", "int4/g32", "int3/g64", "int8/g128"];
const sparsities = ["", "+2:4", "+1:4", "+1:2", "+1:3", "+3:5", "+4:8", "+8:16", "+15:16"];
const shapes = [
  [1, 1],
  [3, 5],
  [7, 33],
  [5, 128],
  [2, 203],
  [4, 64, 1],
];

const qmax = (bits: number): number => 2 ** (bits - 1) - 1;

function roundHalfEven(x: number): number {
  const below = Math.floor(x);
  const rest = x - below;
  if (rest !== 0.5) return Math.round(x);
  return below % 2 === 0 ? below : below + 1;
}

/** The definition, in plain float32 arithmetic. */
function expectedWeight(weight: Float32Array, columns: number, text: string): Float32Array {
  const { bits, groupSize = columns, sparsity } = parseWeightSpec(text);
  const kept = Float32Array.from(weight);
  for (let row = 0; row < weight.length; row += columns) {
    for (let begin = 0; sparsity && begin < columns; begin += sparsity.of) {
      const group = [...weight.subarray(row + begin, row + Math.min(begin + sparsity.of, columns)).keys()];
      group.sort((a, b) => Math.abs(weight[row + begin + b] as number) - Math.abs(weight[row + begin + a] as number) || a - b);
      for (const i of group.slice(sparsity.kept)) kept[row + begin + i] = 0;
    }
    for (let begin = 0; bits !== 32 && begin < columns; begin += groupSize) {
      const group = kept.subarray(row + begin, row + Math.min(begin + groupSize, columns));
      const scale = Math.fround(group.reduce((largest, w) => Math.max(largest, Math.abs(w)), 0) / qmax(bits)) || 1;
      group.forEach((w, i) => {
        group[i] = Math.fround(roundHalfEven(Math.fround(w / scale)) * scale) + 0;
      });
    }
  }
  return kept;
}

test("specs parse and print", (t) => {
  t.deepEqual(parseWeightSpec("int4+2:4"), { text: "int4+2:4", bits: 4, sparsity: { kept: 2, of: 4 } });
  t.deepEqual(parseWeightSpec("int2/g64"), { text: "int2/g64", bits: 2, groupSize: 64 });
  t.deepEqual(parseWeightSpec("1:4"), { text: "float32+1:4", bits: 32, sparsity: { kept: 1, of: 4 } });
  t.deepEqual(parseWeightSpec("float32"), { text: "float32", bits: 32 });
  for (const format of formats) {
    for (const sparsity of sparsities) t.is(formatWeightSpec(parseWeightSpec(format + sparsity)), format + sparsity);
  }
});

test("a wrong spec says what would be right", (t) => {
  const wrong = ["", "int5", "int16", "INT4", "int4+4:4", "int4+0:4", "int4+2:17", "int4+02:4", "int4+2", "int4+", "int4/32", "int4/g16",
    "float32/g32", "int4/g32/g32", "int4+2:4+2:4", "2:4/g32", "int4 +2:4", ":", "2:", "+2:4", "int4+-2:4", "nf4"];
  for (const text of wrong) {
    const error = t.throws(() => parseWeightSpec(text), { instanceOf: UsmLiteError, code: "UNSUPPORTED_SPEC" }, text);
    t.regex(error?.message ?? "", /for example int4\+2:4/);
  }
  t.throws(() => formatWeightSpec({ bits: 6 }), { code: "UNSUPPORTED_SPEC" });
});

test("packing follows the definition and the round trip is exact, for every spec and shape", (t) => {
  for (const format of formats) {
    for (const sparsity of sparsities) {
      for (const [index, shape] of shapes.entries()) {
        const spec = format + sparsity;
        const weight = randomTensor(shape, index + 1);
        const packed = packWeight(weight, spec);
        const { codes, scales, mask } = packedBytes(spec, shape[0] as number, shape[1] as number);
        t.is(packed.packed.size * (packed.packed.dtype === "uint8" ? 1 : 4), codes);
        t.is((packed.scale?.size ?? 0) * 4, scales);
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
  const { codes, mask } = packedBytes("int4+2:4", 144, 576);
  t.true(((codes + mask) * 8) / (144 * 576) <= 2.67);
  t.true(bitsPerWeight("int4+2:4", 1024, 1024) / 32 < 0.094);
});

test("the bytes of the format", (t) => {
  // Codes 7, -7, 1, 0 are stored as 15, 1, 9, 8 from the lowest bits up.
  const dense = packWeight(Tensor.from([7, -7, 1, 0, 3, 2, -1, -2, 4], [1, 9]), "int4");
  t.deepEqual([...dense.packed.toInt32Array()].map((word) => (word >>> 0).toString(16)), ["67ab891f", "c"]);
  t.deepEqual([...(dense.scale as Tensor).toArray()], [1]);
  // Masks 0011, 1100, 1001 have ranks 0, 5, 3.
  const sparse = packWeight(Tensor.from([7, -7, 1, 0, 0, 1, 3, 2, 5, 0, 1, -4], [1, 12]), "int4+2:4");
  t.deepEqual([...(sparse.mask as Tensor).toArray()], [0 + 6 * 5 + 36 * 3]);
  t.deepEqual([...sparse.packed.toArray()], [0x1f, 0xab, 0x4d]);
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
  t.deepEqual([...values.toArray()].map((value) => Math.round(value * 10) / 10), [1, 2, 0, 0, 0, 0, 0, 8]);
  t.throws(() => packWeight(weight, "int8+2:4", Tensor.from([1, 1, 1, 0, 0, 0, 0, 1], [1, 8], "uint8")), {
    code: "INVALID_ARGUMENT",
    message: /keeps 3 of the 4 inputs from 0 on/,
  });
  t.throws(() => packWeight(weight, "int8", Tensor.zeros([1, 8], "uint8")), { code: "INVALID_ARGUMENT", message: /takes no mask/ });
  t.throws(() => packWeight(weight, "int8+2:4", Tensor.zeros([1, 4], "uint8")), { code: "INVALID_ARGUMENT" });
});

test("extreme weights", (t) => {
  const tiny = 1e-45; // smallest denormal: the scale underflows to zero and becomes one
  for (const values of [[0, 0, 0, 0], [tiny, -tiny, 0, 0], [3.4e38, -3.4e38, 1, 0], [1e-40, 2e-40, -3e-40, 4e-40]]) {
    const weight = Tensor.from(values, [1, 4]);
    for (const spec of ["int8", "int4", "int2", "int4+2:4"]) {
      t.deepEqual(unpackWeight(packWeight(weight, spec)).weight.toArray(), expectedWeight(weight.toArray(), 4, spec), `${spec} of ${values}`);
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
  t.throws(() => unpackWeight({ ...floats, packed: Tensor.from(floats.packed.toArray().fill(NaN), floats.packed.shape) }), { ...bad, message: /NaN/ });
  const rank = packWeight(Tensor.from(randomValues(10, 1), [1, 10]), "int4+3:5"); // ten masks in four bits
  t.throws(() => unpackWeight({ ...rank, mask: changed(rank.mask, 0, 0xfa) }), { ...bad, message: /rank 10; there are only 10/ });
});
