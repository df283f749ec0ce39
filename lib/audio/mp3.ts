/** MP3, decoded by mpg123 compiled to WebAssembly. */
import { MPEGDecoder } from "mpg123-decoder";
import type { ByteSource } from "./byte_source.js";
import { id3Bytes } from "./container.js";
import { mp3FrameHeader, mp3Information, type Mp3FrameHeader, type Mp3Information } from "./mp3_frame.js";
import { badAudio, freeQuietly, mixToMono, quietly, truncatedAudio, type DecodeRequest, type PcmStream } from "./pcm_stream.js";

const framesPerBlock = 64;
const maximumFrameBytes = 1 << 12;
// What may lie between a tag and the first frame.
const maximumJunkBytes = 1 << 16;

/** @throws UsmLiteError BAD_AUDIO, here and from the stream's blocks */
export async function decodeMp3(source: ByteSource, request: DecodeRequest): Promise<PcmStream> {
  for (let tag; (tag = id3Bytes(await source.peek(10))) > 0;) await skip(source, tag);
  const first = await findFirstFrame(source);
  const information = mp3Information(await source.peek(first.bytes), first);
  if (information) await source.take(first.bytes);
  const frames = information?.frames;
  return {
    sampleRate: first.sampleRate,
    declaredSamples: frames === undefined ? undefined : frames * first.samples,
    blocks: mp3Blocks(source, first, information, request.allowTruncated),
  };
}

async function skip(source: ByteSource, bytes: number): Promise<void> {
  for (let rest = bytes; rest > 0;) {
    const taken = (await source.take(Math.min(rest, 1 << 16))).length;
    if (taken === 0) return;
    rest -= taken;
  }
}

async function findFirstFrame(source: ByteSource): Promise<Mp3FrameHeader> {
  const start = await source.peek(maximumJunkBytes + maximumFrameBytes);
  for (let at = 0; at < Math.min(start.length, maximumJunkBytes); at++) {
    const header = mp3FrameHeader(start.subarray(at, at + 4));
    if (!header) continue;
    const next = start.subarray(at + header.bytes, at + header.bytes + 4);
    if (next.length === 4 && mp3FrameHeader(next)?.sampleRate !== header.sampleRate && !isTrailer(next)) continue;
    await source.take(at);
    return header;
  }
  throw badAudio(source.name, "holds no MP3 frames, though it begins like an MP3 file");
}

/** Whether these four bytes begin what may follow the last frame: a tag, or padding. */
function isTrailer(bytes: Uint8Array): boolean {
  const text = String.fromCharCode(...bytes);
  return text.startsWith("TAG") || text === "APET" || text === "LYRI" || bytes.every((byte) => byte === 0);
}

async function* mp3Blocks(
  source: ByteSource,
  first: Mp3FrameHeader,
  information: Mp3Information | undefined,
  allowTruncated: boolean,
): AsyncGenerator<Float32Array> {
  const decoder = new MPEGDecoder({ enableGapless: false });
  await decoder.ready;
  const { skipStart = 0, skipEnd = 0, frames: declaredFrames } = information ?? {};
  let passed = 0; // samples decoded
  let ended = false;
  // The last samples are held back until it is known whether they are padding.
  let held: Float32Array = new Float32Array(0);
  try {
    for (let frameCount = 0; !ended;) {
      const frames: Uint8Array[] = [];
      while (frames.length < framesPerBlock && frameCount !== declaredFrames) {
        const frame = await takeFrame(source, first);
        if (!frame) break;
        frames.push(frame);
        frameCount++;
      }
      ended = frames.length < framesPerBlock;
      const cut = ended && (source.position < (source.size ?? 0) ? !isTrailer(await source.peek(4)) : false);
      const missing = ended && declaredFrames !== undefined && frameCount < declaredFrames;
      if ((cut || missing) && !allowTruncated) throw truncatedAudio(source.name, "MP3 stream", passed, first.sampleRate);
      if (frames.length === 0) break;

      const decoded = quietly(() => decoder.decodeFrames(frames));
      // Only the first frames may give less: they may need bits of frames before the beginning of the recording.
      const missed = passed > 0 && decoded.samplesDecoded < frames.length * first.samples;
      if (decoded.errors[0] || missed) {
        const reason = decoded.errors[0]?.message ?? "it gives no samples";
        throw badAudio(
          source.name,
          `an MP3 frame near ${(passed / first.sampleRate).toFixed(2)} s is damaged (${reason}); use an undamaged file`,
        );
      }
      const begin = Math.min(Math.max(skipStart - passed, 0), decoded.samplesDecoded);
      passed += decoded.samplesDecoded;
      const mono = mixToMono(decoded.channelData, begin, decoded.samplesDecoded);
      const known = new Float32Array(held.length + mono.length);
      known.set(held);
      known.set(mono, held.length);
      const certain = Math.max(0, known.length - skipEnd);
      if (certain > 0) yield known.subarray(0, certain);
      held = known.subarray(certain);
    }
  } finally {
    freeQuietly(decoder);
  }
}

/** The next frame, or undefined at the end of the file or of the frames. */
async function takeFrame(source: ByteSource, first: Mp3FrameHeader): Promise<Uint8Array | undefined> {
  const start = await source.peek(4);
  const header = mp3FrameHeader(start);
  if (!header) {
    if (start.length < 4 || isTrailer(start)) return undefined;
    throw badAudio(source.name, `no MP3 frame begins at byte ${source.position}; use an undamaged file`);
  }
  if (header.sampleRate !== first.sampleRate) {
    throw badAudio(source.name, `the sampling rate changes from ${first.sampleRate} to ${header.sampleRate} Hz`);
  }
  const frame = await source.peek(header.bytes);
  return frame.length < header.bytes ? undefined : source.take(header.bytes);
}
