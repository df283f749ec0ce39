/** Element types of the safetensors format and what they become in memory. */
import type { DType, TensorValues } from "../tensor/tensor.js";

/** Bits per element of every dtype the format names, in the order of the reference library (narrow to wide). */
export const bitsOfDtype = {
  BOOL: 8,
  F4: 4,
  F6_E2M3: 6,
  F6_E3M2: 6,
  U8: 8,
  I8: 8,
  F8_E5M2: 8,
  F8_E4M3: 8,
  F8_E5M2FNUZ: 8,
  F8_E4M3FNUZ: 8,
  F8_E8M0: 8,
  I16: 16,
  U16: 16,
  F16: 16,
  BF16: 16,
  I32: 32,
  U32: 32,
  F32: 32,
  C64: 64,
  F64: 64,
  I64: 64,
  U64: 64,
} as const;

export type SafetensorsDtype = keyof typeof bitsOfDtype;

export const isSafetensorsDtype = (name: unknown): name is SafetensorsDtype => typeof name === "string" && Object.hasOwn(bitsOfDtype, name);

const order = Object.keys(bitsOfDtype) as SafetensorsDtype[];

/** Sorts wide types first, as the reference library lays out files, so that every tensor is aligned. */
export const compareDtypes = (a: SafetensorsDtype, b: SafetensorsDtype): number => order.indexOf(b) - order.indexOf(a);

/** What a tensor of ours is called in a file. */
export const dtypeOfTensor: Readonly<Record<DType, SafetensorsDtype>> = {
  float32: "F32",
  int32: "I32",
  int8: "I8",
  uint8: "U8",
};

/**
 * The values behind little-endian `bytes`: floats as float32 (F16, BF16 exactly; F64 rounded), integers as int32, int8
 * or uint8. `undefined` when this package computes with no such dtype. Integers beyond int32 throw RangeError.
 */
export function decodeValues(dtype: SafetensorsDtype, bytes: Uint8Array): TensorValues | undefined {
  // `bytes` starts a buffer of its own, so every view is aligned; x86 is little-endian like the format.
  const view = <Values>(type: new (buffer: ArrayBufferLike, offset: number, length: number) => Values, size: number) =>
    new type(bytes.buffer, bytes.byteOffset, bytes.byteLength / size);
  switch (dtype) {
    case "F32":
      return view(Float32Array, 4);
    case "F16":
      return float32FromHalf(view(Uint16Array, 2));
    case "BF16":
      return float32FromBrainFloat(view(Uint16Array, 2));
    case "F64":
      return Float32Array.from(view(Float64Array, 8));
    case "I32":
      return view(Int32Array, 4);
    case "I8":
      return view(Int8Array, 1);
    case "U8":
    case "BOOL":
      return bytes;
    case "I16":
      return Int32Array.from(view(Int16Array, 2));
    case "U16":
      return Int32Array.from(view(Uint16Array, 2));
    case "U32":
      return int32FromNumbers(view(Uint32Array, 4));
    case "I64":
      return int32FromNumbers(Array.from(view(BigInt64Array, 8), Number));
    case "U64":
      return int32FromNumbers(Array.from(view(BigUint64Array, 8), Number));
    default:
      return undefined;
  }
}

function int32FromNumbers(values: ArrayLike<number>): Int32Array {
  const narrow = new Int32Array(values.length);
  for (let i = 0; i < values.length; i++) {
    const value = values[i] as number;
    narrow[i] = value;
    if (narrow[i] !== value) throw new RangeError(`${value} does not fit in 32 bits`);
  }
  return narrow;
}

/** The upper half of a float32; a loop, since checkpoints hold billions. */
function float32FromBrainFloat(halves: Uint16Array): Float32Array {
  const words = new Uint32Array(halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = (halves[i] as number) << 16;
  return new Float32Array(words.buffer);
}

let halfTable: Float32Array | undefined;

function float32FromHalf(halves: Uint16Array): Float32Array {
  halfTable ??= Float32Array.from({ length: 65536 }, (_, bits) => {
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    const magnitude =
      exponent === 0 ? fraction * 2 ** -24 : exponent === 31 ? (fraction ? NaN : Infinity) : (1024 + fraction) * 2 ** (exponent - 25);
    return bits & 0x8000 ? -magnitude : magnitude;
  });
  const floats = new Float32Array(halves.length);
  for (let i = 0; i < halves.length; i++) floats[i] = halfTable[halves[i] as number] as number;
  return floats;
}
