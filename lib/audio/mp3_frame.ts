/** Frame headers of MPEG audio layer III, and the tag in which encoders tell what to trim. */

/** What the four bytes at the start of a frame say. */
export interface Mp3FrameHeader {
  /** Length of the frame, header included. */
  readonly bytes: number;
  /** Per channel. */
  readonly samples: number;
  /** Hz */
  readonly sampleRate: number;
  /** Bytes of header and side information. */
  readonly overhead: number;
}

/** What the first frame says about the others, when it is an information frame and carries no audio. */
export interface Mp3Information {
  /** Frames with audio; undefined when it does not say. */
  readonly frames: number | undefined;
  /** Samples to drop at either end. */
  readonly skipStart: number;
  readonly skipEnd: number;
}

// ISO 11172-3 and 13818-3, in kbit/s
const bitratesMpeg1 = [0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320];
const bitratesMpeg2 = [0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160];
const sampleRatesMpeg1 = [44100, 48000, 32000];
// Decoding delays a signal by this much beyond what the encoder did (the synthesis filter bank).
const decoderDelay = 529;

/** Parses the header at the start of `bytes`; undefined when this is no layer III frame of a stated bitrate. */
export function mp3FrameHeader(bytes: Uint8Array): Mp3FrameHeader | undefined {
  const [sync = 0, version = 0, rates = 0, mode = 0] = bytes;
  if (bytes.length < 4 || sync !== 0xff || (version & 0xe6) !== 0xe2) return undefined; // 11 sync bits, layer III
  const versionCode = (version >> 3) & 3; // 3: MPEG 1, 2: MPEG 2, 0: MPEG 2.5
  const isMpeg1 = versionCode === 3;
  const bitrate = (isMpeg1 ? bitratesMpeg1 : bitratesMpeg2)[rates >> 4];
  const baseRate = sampleRatesMpeg1[(rates >> 2) & 3];
  if (versionCode === 1 || !bitrate || !baseRate) return undefined;
  const sampleRate = baseRate >> (isMpeg1 ? 0 : versionCode === 2 ? 1 : 2);
  const samples = isMpeg1 ? 1152 : 576;
  const padding = (rates >> 1) & 1;
  const isMono = mode >> 6 === 3;
  const checksum = (version & 1) === 0 ? 2 : 0;
  return {
    bytes: Math.floor((samples / 8) * ((bitrate * 1000) / sampleRate)) + padding,
    samples,
    sampleRate,
    overhead: 4 + checksum + (isMpeg1 ? (isMono ? 17 : 32) : isMono ? 9 : 17),
  };
}

/** Reads the "Xing" or "Info" tag of a first frame; undefined when it carries audio. */
export function mp3Information(frame: Uint8Array, header: Mp3FrameHeader): Mp3Information | undefined {
  const view = new DataView(frame.buffer, frame.byteOffset, frame.length);
  let at = header.overhead;
  const name = at + 8 <= frame.length ? view.getUint32(at) : 0;
  if (name !== 0x58696e67 && name !== 0x496e666f) return undefined;
  const flags = view.getUint32(at + 4);
  at += 8;
  const frames = (flags & 1) !== 0 && at + 4 <= frame.length ? view.getUint32(at) : undefined;
  // Then follow, as the flags say: number of frames, of bytes, a table for seeking, a quality; then LAME's extension.
  at += ((flags & 1) !== 0 ? 4 : 0) + ((flags & 2) !== 0 ? 4 : 0) + ((flags & 4) !== 0 ? 100 : 0) + ((flags & 8) !== 0 ? 4 : 0);
  if (at + 24 > frame.length || view.getUint8(at) === 0) return { frames, skipStart: 0, skipEnd: 0 };
  const delays = view.getUint32(at + 20) & 0xffffff; // 12 bits delay, 12 bits padding
  return { frames, skipStart: (delays >> 12) + decoderDelay, skipEnd: Math.max(0, (delays & 0xfff) - decoderDelay) };
}
