/** Writes WAV files of every kind for the tests. */

export type WavCoding = "u8" | "s16" | "s24" | "s32" | "f32" | "f64" | "alaw" | "mulaw";

export interface WavOptions {
  readonly sampleRate: number;
  readonly coding: WavCoding;
  readonly extensible?: boolean;
  /** RF64 with its sizes in a ds64 chunk. */
  readonly rf64?: boolean;
  /** What the data chunk says about its size, in place of the truth. */
  readonly dataSize?: number;
  readonly riffSize?: number;
  /** Further chunks before the data, name and body; odd ones are padded unless `pad` is false. */
  readonly chunks?: readonly (readonly [string, Uint8Array])[];
  readonly pad?: boolean;
}

const tags = { u8: 1, s16: 1, s24: 1, s32: 1, f32: 3, f64: 3, alaw: 6, mulaw: 7 } as const;
const sampleBytes = { u8: 1, s16: 2, s24: 3, s32: 4, f32: 4, f64: 8, alaw: 1, mulaw: 1 } as const;

/** One channel per array; values for "alaw" and "mulaw" are the codes themselves. */
export function wavFile(channels: readonly ArrayLike<number>[], options: WavOptions): Buffer {
  const { coding, sampleRate } = options;
  const bytes = sampleBytes[coding];
  const data = Buffer.alloc(channels.length * (channels[0]?.length ?? 0) * bytes);
  channels.forEach((channel, c) => {
    for (let i = 0; i < channel.length; i++) {
      writeSample(data, (i * channels.length + c) * bytes, channel[i] as number, coding);
    }
  });

  const format = Buffer.alloc(options.extensible ? 40 : 16);
  format.writeUInt16LE(options.extensible ? 0xfffe : tags[coding], 0);
  format.writeUInt16LE(channels.length, 2);
  format.writeUInt32LE(sampleRate, 4);
  format.writeUInt32LE((sampleRate * channels.length * bytes) % 2 ** 32, 8);
  format.writeUInt16LE(channels.length * bytes, 12);
  format.writeUInt16LE(8 * bytes, 14);
  if (options.extensible) {
    format.writeUInt16LE(22, 16);
    format.writeUInt16LE(8 * bytes, 18);
    format.writeUInt16LE(tags[coding], 24);
    Buffer.from("000000001000800000aa00389b71", "hex").copy(format, 26);
  }
  const before: Buffer[] = [];
  if (options.rf64) {
    const sizes = Buffer.alloc(28);
    sizes.writeBigUInt64LE(BigInt(data.length), 8);
    before.push(chunk("ds64", sizes, sizes.length, true));
  }
  before.push(chunk("fmt ", format, format.length, true));
  for (const [name, body] of options.chunks ?? []) before.push(chunk(name, Buffer.from(body), body.length, options.pad ?? true));
  const dataSize = options.dataSize ?? (options.rf64 ? 0xffffffff : data.length);
  const body = Buffer.concat([Buffer.from("WAVE"), ...before, chunk("data", data, dataSize, true)]);
  const size = Buffer.alloc(4);
  size.writeUInt32LE(options.riffSize ?? (options.rf64 ? 0xffffffff : body.length));
  return Buffer.concat([Buffer.from(options.rf64 ? "RF64" : "RIFF"), size, body]);
}

function chunk(name: string, body: Buffer, size: number, pad: boolean): Buffer {
  const header = Buffer.alloc(8);
  header.write(name, "latin1");
  header.writeUInt32LE(size, 4);
  return Buffer.concat([header, body, Buffer.alloc(pad ? body.length % 2 : 0)]);
}

function writeSample(to: Buffer, at: number, value: number, coding: WavCoding): void {
  const integer = (bits: number): number =>
    Math.max(-(2 ** (bits - 1)), Math.min(2 ** (bits - 1) - 1, Math.round(value * 2 ** (bits - 1))));
  switch (coding) {
    case "u8":
      return void to.writeUInt8(integer(8) + 128, at);
    case "s16":
      return void to.writeInt16LE(integer(16), at);
    case "s24":
      return void to.writeIntLE(integer(24), at, 3);
    case "s32":
      return void to.writeInt32LE(integer(32), at);
    case "f32":
      return void to.writeFloatLE(value, at);
    case "f64":
      return void to.writeDoubleLE(value, at);
    default:
      return void to.writeUInt8(value, at);
  }
}
