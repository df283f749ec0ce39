/** Formats without a decoder of their own, through the `ffmpeg` program where it is installed. */
import { spawn, type ChildProcessByStdio } from "node:child_process";
import type { Readable, Writable } from "node:stream";
import { ByteSource } from "./byte_source.js";
import { badAudio, type DecodeRequest, type PcmStream } from "./pcm_stream.js";
import { decodeWavOrFlac } from "./wav_flac.js";

const maximumMessageCharacters = 2000;

// The audio comes through standard input and nothing else may be opened: playlists in a hostile file would otherwise
// make ffmpeg read other files or addresses. "cache" allows it to jump within what it has read.
const ffmpegArguments = [
  ...["-nostdin", "-v", "repeat+error", "-protocol_whitelist", "cache,pipe", "-i", "cache:pipe:0"],
  ...["-map", "0:a:0", "-c:a", "pcm_f32le", "-f", "wav", "pipe:1"],
];

/**
 * @param what the format, for the message when there is no ffmpeg
 * @throws UsmLiteError BAD_AUDIO, here and from the stream's blocks
 */
export async function decodeWithFfmpeg(source: ByteSource, what: string, request: DecodeRequest): Promise<PcmStream> {
  if (!source.rewind()) throw badAudio(source.name, `is ${what}, and being a pipe it cannot be read again by ffmpeg; use a file`);
  const program = new Ffmpeg(source);
  const pcm = ByteSource.fromStream(source.name, program.output(what, request));
  try {
    const stream = await decodeWavOrFlac(pcm, "wav", request);
    if (typeof stream === "string") throw badAudio(source.name, `ffmpeg gave ${stream}`);
    return { ...stream, close: () => program.kill() };
  } catch (error) {
    program.kill();
    throw error;
  }
}

class Ffmpeg {
  private readonly process: ChildProcessByStdio<Writable, Readable, Readable>;
  private readonly exit: Promise<number | NodeJS.ErrnoException>;
  private messages = "";
  /** Why the input could not be read, if so. */
  private inputFailure: unknown;

  constructor(private readonly source: ByteSource) {
    this.process = spawn("ffmpeg", ffmpegArguments, { stdio: ["pipe", "pipe", "pipe"] });
    this.exit = new Promise((resolve) => {
      this.process.on("error", resolve);
      this.process.on("close", (code) => resolve(code ?? 1));
    });
    this.process.stderr.setEncoding("utf8").on("data", (text: string) => {
      this.messages = (this.messages + text).slice(0, maximumMessageCharacters);
    });
    this.process.stdin.on("error", () => undefined); // it may stop reading before the end
    this.feed().catch((error: unknown) => {
      this.inputFailure = error;
      this.kill();
    });
  }

  kill(): void {
    this.process.kill("SIGKILL");
  }

  /** What it writes; throws at the end when it failed. */
  async *output(what: string, request: DecodeRequest): AsyncGenerator<Uint8Array> {
    for await (const block of this.process.stdout) yield block as Uint8Array;
    const exit = await this.exit;
    if (this.inputFailure) throw this.inputFailure;
    const { name } = this.source;
    if (exit instanceof Error) {
      throw badAudio(
        name,
        `is ${what}; WAV, FLAC, Ogg-Opus, Ogg-Vorbis and MP3 are decoded here, others through ffmpeg, ` +
          `which cannot be started (${exit.code ?? exit.message}): install it, or convert the file`,
      );
    }
    // The cache says so whenever it is asked for a pipe's length.
    const message = this.messages.split("\n").find((line) => line !== "" && !line.startsWith("[cache @")) ?? "";
    if (exit !== 0 || (message !== "" && !request.allowTruncated)) {
      throw badAudio(name, `is ${what}, and ffmpeg cannot decode it: ${message}`);
    }
  }

  private async feed(): Promise<void> {
    const { stdin } = this.process;
    for (let block; (block = await this.source.takeBlock()).length > 0 && stdin.writable;) {
      if (stdin.write(block)) continue;
      await new Promise<void>((resolve) => {
        stdin.once("drain", resolve).once("close", resolve);
      });
    }
    stdin.end();
  }
}
