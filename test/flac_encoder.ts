/** A FLAC encoder (RFC 9639) for the tests: not to compress well, but to use every feature that a decoder must know. */
import { createHash } from "node:crypto";

export type Subframe =
  | { readonly kind: "constant" | "verbatim" }
  | { readonly kind: "fixed"; readonly order: number }
  | { readonly kind: "lpc"; readonly coefficients: readonly number[]; readonly shift: number };

export interface FlacOptions {
  readonly sampleRate: number;
  /** Bits per sample, 4 to 32. */
  readonly bits: number;
  /** Samples of the frames in turn, the last shortened; repeated as needed. */
  readonly blockSizes: readonly number[];
  /** Used by the frames in turn. */
  readonly subframes: readonly Subframe[];
  readonly stereo?: "independent" | "left-side" | "side-right" | "mid-side";
  /** Low bits that are zero in all samples and left out. */
  readonly wastedBits?: number;
  readonly partitionOrder?: number;
  /** Rice parameter; "escape" writes residuals as plain numbers. */
  readonly rice?: number | "escape";
  /** Rice parameters of 5 bits instead of 4. */
  readonly longParameters?: boolean;
  readonly digest?: boolean;
  readonly totalSamples?: number;
  /** Written before the last metadata block. */
  readonly padding?: number;
}

class BitWriter {
  readonly bits: number[] = [];

  write(value: number, count: number): this {
    const unsigned = value < 0 ? value + 2 ** count : value;
    for (let i = count - 1; i >= 0; i--) this.bits.push(Math.floor(unsigned / 2 ** i) % 2);
    return this;
  }

  zerosAndOne(zeros: number): void {
    for (let i = 0; i < zeros; i++) this.bits.push(0);
    this.bits.push(1);
  }

  bytes(): Uint8Array {
    while (this.bits.length % 8 !== 0) this.bits.push(0);
    return Uint8Array.from({ length: this.bits.length / 8 }, (_, i) =>
      this.bits.slice(8 * i, 8 * i + 8).reduce((byte, bit) => byte * 2 + bit, 0),
    );
  }
}

function remainder(bytes: Uint8Array, width: number, polynomial: number): number {
  let sum = 0;
  for (const byte of bytes) {
    sum ^= byte << (width - 8);
    for (let bit = 0; bit < 8; bit++) sum = ((sum << 1) ^ ((sum >> (width - 1)) & 1 ? polynomial : 0)) & (2 ** width - 1);
  }
  return sum;
}

/** One array of whole numbers per channel. */
export function flacFile(channels: readonly (readonly number[])[], options: FlacOptions): Buffer {
  const length = channels[0]?.length ?? 0;
  const info = new BitWriter();
  info.write(16, 16).write(65535, 16).write(0, 24).write(0, 24);
  info
    .write(options.sampleRate, 20)
    .write(channels.length - 1, 3)
    .write(options.bits - 1, 5);
  info.write(options.totalSamples ?? length, 36);
  const digest = options.digest === false ? Buffer.alloc(16) : digestOf(channels, options.bits);
  const parts: Uint8Array[] = [Buffer.from("fLaC"), Buffer.from([0, 0, 0, 34]), info.bytes(), digest];
  parts.push(Buffer.from([0x81, 0, 0, options.padding ?? 0]), Buffer.alloc(options.padding ?? 0));
  for (let begin = 0, frame = 0; begin < length; frame++) {
    const size = Math.min(options.blockSizes[frame % options.blockSizes.length] as number, length - begin);
    const block = channels.map((channel) => channel.slice(begin, begin + size));
    parts.push(frameOf(block, frame, options));
    begin += size;
  }
  return Buffer.concat(parts);
}

function digestOf(channels: readonly (readonly number[])[], bits: number): Buffer {
  const bytes = Math.ceil(bits / 8);
  const data = Buffer.alloc(channels.length * (channels[0]?.length ?? 0) * bytes);
  channels.forEach((channel, c) => channel.forEach((value, i) => data.writeIntLE(value, (i * channels.length + c) * bytes, bytes)));
  return createHash("md5").update(data).digest();
}

function frameOf(block: number[][], frame: number, options: FlacOptions): Uint8Array {
  const size = block[0]?.length ?? 0;
  const stereo = options.stereo ?? "independent";
  const assignment = { independent: block.length - 1, "left-side": 8, "side-right": 9, "mid-side": 10 }[stereo];
  const writer = new BitWriter();
  writer.write(0x7ffc, 15).write(0, 1).write(7, 4).write(0, 4).write(assignment, 4).write(0, 3).write(0, 1);
  // The frame's number in the manner of UTF-8, of one or two bytes.
  if (frame < 128) writer.write(frame, 8);
  else writer.write(0xc0 + (frame >> 6), 8).write(0x80 + (frame & 63), 8);
  writer.write(size - 1, 16);
  writer.write(remainder(writer.bytes(), 8, 0x07), 8);

  const [left = [], right = []] = block;
  const side = left.map((value, i) => value - (right[i] as number));
  const coded = {
    independent: block,
    "left-side": [left, side],
    "side-right": [side, right],
    "mid-side": [left.map((value, i) => Math.floor((value + (right[i] as number)) / 2)), side],
  }[stereo];
  const subframe = options.subframes[frame % options.subframes.length] as Subframe;
  for (const channel of coded) {
    writeSubframe(writer, channel, options.bits + (channel === side ? 1 : 0), subframe, options);
  }
  const bytes = writer.bytes();
  const checksum = remainder(bytes, 16, 0x8005);
  return Buffer.concat([bytes, Buffer.from([checksum >> 8, checksum & 255])]);
}

function writeSubframe(writer: BitWriter, samples: readonly number[], bits: number, subframe: Subframe, options: FlacOptions): void {
  const wasted = options.wastedBits ?? 0;
  const values = samples.map((value) => value / 2 ** wasted);
  const depth = bits - wasted;
  const order = subframe.kind === "fixed" ? subframe.order : subframe.kind === "lpc" ? subframe.coefficients.length : 0;
  const type = { constant: 0, verbatim: 1, fixed: 8 + order, lpc: 31 + order }[subframe.kind];
  writer
    .write(0, 1)
    .write(type, 6)
    .write(wasted > 0 ? 1 : 0, 1);
  if (wasted > 0) writer.zerosAndOne(wasted - 1);
  if (subframe.kind === "constant") return void writer.write(values[0] as number, depth);
  if (subframe.kind === "verbatim") return values.forEach((value) => writer.write(value, depth));
  values.slice(0, order).forEach((value) => writer.write(value, depth));
  const fixed = [[], [1], [2, -1], [3, -3, 1], [4, -6, 4, -1]];
  const coefficients = subframe.kind === "lpc" ? subframe.coefficients : (fixed[order] as number[]);
  const shift = subframe.kind === "lpc" ? subframe.shift : 0;
  if (subframe.kind === "lpc") {
    writer.write(14, 4).write(shift, 5); // 15 bits of precision
    coefficients.forEach((coefficient) => writer.write(coefficient, 15));
  }
  const residual = values.slice(order).map((value, i) => {
    const sum = coefficients.reduce((total, coefficient, j) => total + coefficient * (values[order + i - 1 - j] as number), 0);
    return value - Math.floor(sum / 2 ** shift);
  });
  writeResidual(writer, residual, order, options);
}

function writeResidual(writer: BitWriter, residual: readonly number[], order: number, options: FlacOptions): void {
  const { partitionOrder = 0, rice = 4 } = options;
  const parameterBits = options.longParameters ? 5 : 4;
  writer.write(options.longParameters ? 1 : 0, 2).write(partitionOrder, 4);
  const partition = (residual.length + order) / 2 ** partitionOrder;
  for (let begin = 0, p = 0; p < 2 ** partitionOrder; p++) {
    const end = (p + 1) * partition - order;
    const values = residual.slice(begin, end);
    begin = end;
    if (rice === "escape") {
      const width = values.every((value) => value === 0) ? 0 : 31;
      writer.write(2 ** parameterBits - 1, parameterBits).write(width, 5);
      if (width > 0) values.forEach((value) => writer.write(value, width));
      continue;
    }
    writer.write(rice, parameterBits);
    for (const value of values) {
      const folded = value >= 0 ? 2 * value : -2 * value - 1;
      writer.zerosAndOne(Math.floor(folded / 2 ** rice));
      writer.write(folded % 2 ** rice, rice);
    }
  }
}
