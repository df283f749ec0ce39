/** The audio formats of realtime sessions, decoded to mono samples at the model's rate. */
import { StreamResampler } from "../../audio/resample.js";

export type AudioFormat =
  | { readonly type: "audio/pcm"; readonly rate: number }
  /** G.711 µ-law and A-law: 8 kHz, one byte a sample. */
  | { readonly type: "audio/pcmu" }
  | { readonly type: "audio/pcma" };

/** Hz; what models hear. */
export const sampleRate = 16_000;
const telephoneRate = 8000;

/** Takes bytes in pieces of any length, even half samples. */
export class AudioDecoder {
  private readonly resampler: StreamResampler | undefined;
  private readonly bytesPerSecond: number;
  private half: Uint8Array | undefined;

  constructor(private readonly format: AudioFormat) {
    const rate = format.type === "audio/pcm" ? format.rate : telephoneRate;
    this.bytesPerSecond = format.type === "audio/pcm" ? 2 * rate : rate;
    this.resampler = rate === sampleRate ? undefined : new StreamResampler(rate, sampleRate);
  }

  /** How long so many bytes last. */
  seconds(bytes: number): number {
    return bytes / this.bytesPerSecond;
  }

  push(bytes: Uint8Array): Float32Array {
    const samples = this.samples(bytes);
    return this.resampler && samples.length > 0 ? this.resampler.push(samples) : samples;
  }

  /** What is left; nothing may be pushed afterwards. */
  finish(): Float32Array {
    return this.resampler?.finish() ?? new Float32Array(0);
  }

  private samples(bytes: Uint8Array): Float32Array {
    if (this.format.type !== "audio/pcm") {
      const table = this.format.type === "audio/pcmu" ? muLaw : aLaw;
      const samples = new Float32Array(bytes.length);
      for (let i = 0; i < samples.length; i++) samples[i] = table[bytes[i] as number] as number;
      return samples;
    }
    const whole = this.half ? Buffer.concat([this.half, bytes]) : bytes;
    this.half = whole.length % 2 === 1 ? whole.slice(-1) : undefined;
    return littleEndian(whole.subarray(0, whole.length & ~1));
  }
}

function littleEndian(bytes: Uint8Array): Float32Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const samples = new Float32Array(bytes.length / 2);
  for (let i = 0; i < samples.length; i++) samples[i] = view.getInt16(2 * i, true) / 32768;
  return samples;
}

/** ITU-T G.711, decoding: 4 bits of mantissa, 3 of exponent, a sign; µ-law on 14-bit, A-law on 13-bit integers. */
const muLaw = Float32Array.from({ length: 256 }, (_, code) => {
  const value = ~code & 0xff;
  const magnitude = ((((value & 0x0f) << 1) + 33) << ((value >> 4) & 7)) - 33;
  return (value & 0x80 ? -magnitude : magnitude) / 8192;
});

const aLaw = Float32Array.from({ length: 256 }, (_, code) => {
  const value = code ^ 0x55;
  const exponent = (value >> 4) & 7;
  const mantissa = ((value & 0x0f) << 1) + 1;
  const magnitude = exponent === 0 ? mantissa : (mantissa + 32) << (exponent - 1);
  return (value & 0x80 ? magnitude : -magnitude) / 4096;
});
