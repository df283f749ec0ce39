/** Sequential reading of audio bytes from a file, from memory or from another program. */
import { open, type FileHandle } from "node:fs/promises";
import { UsmLiteError } from "../errors.js";

const defaultBlockBytes = 1 << 18;

/** Reads up to `block.length` bytes from `position` on (a stream: wherever it is); 0 at the end. */
type ReadInto = (block: Uint8Array, position: number) => Promise<number>;

/** Bytes in order, with a look ahead; what is held in memory does not grow with the file. */
export class ByteSource implements AsyncDisposable {
  /** Where bytes are read into: those behind what was given out are free. */
  private block: Uint8Array = new Uint8Array(0);
  /** Read, but not taken yet: a part of `block`, up to what is free. */
  private ahead: Uint8Array = this.block;
  private ended = false;
  /** Bytes taken so far. */
  position = 0;

  private constructor(
    /** What messages call it: the path, or "audio in memory". */
    readonly name: string,
    /** Bytes in all; undefined for a stream, which can only be read in order. */
    readonly size: number | undefined,
    private readonly readInto: ReadInto,
    private readonly file?: FileHandle,
    private readonly signal?: AbortSignal,
    private readonly blockBytes = defaultBlockBytes,
  ) {}

  /**
   * `blockBytes` is what one read takes from a file: a small number serves who wants its header alone.
   * @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE; INVALID_ARGUMENT for anything but a path or bytes
   */
  static async open(input: string | Uint8Array, signal?: AbortSignal, blockBytes?: number): Promise<ByteSource> {
    if (input instanceof Uint8Array) return ByteSource.fromMemory(input, signal);
    if (typeof input !== "string") {
      const given = Object.prototype.toString.call(input).slice(8, -1);
      throw new UsmLiteError(
        "INVALID_ARGUMENT",
        `audio is the path of a file or its bytes, a Uint8Array; samples are a Float32Array of 16 kHz, -1 to 1. This is ${given}`,
      );
    }
    let file: FileHandle | undefined;
    try {
      const opened = (file = await open(input, "r"));
      const status = await opened.stat();
      if (status.isDirectory()) throw new UsmLiteError("FILE_UNREADABLE", `${input} is a folder; an audio file is expected`);
      const read: ReadInto = async (block, position) =>
        (await opened.read(block, 0, block.length, status.isFile() ? position : null)).bytesRead;
      return new ByteSource(input, status.isFile() ? status.size : undefined, read, opened, signal, blockBytes);
    } catch (error) {
      await file?.close();
      throw unreadable(input, error);
    }
  }

  private static fromMemory(bytes: Uint8Array, signal?: AbortSignal): ByteSource {
    const read: ReadInto = (block, position) => {
      const part = bytes.subarray(position, position + block.length);
      block.set(part);
      return Promise.resolve(part.length);
    };
    return new ByteSource("audio in memory", bytes.length, read, undefined, signal);
  }

  /** What another program writes; `name` is whose audio it is. */
  static fromStream(name: string, stream: AsyncIterable<Uint8Array>): ByteSource {
    const iterator = stream[Symbol.asyncIterator]();
    let rest: Uint8Array = new Uint8Array(0);
    const read: ReadInto = async (block) => {
      while (rest.length === 0) {
        const next = await iterator.next();
        if (next.done) return 0;
        rest = next.value;
      }
      const part = rest.subarray(0, block.length);
      block.set(part);
      rest = rest.subarray(part.length);
      return part.length;
    };
    return new ByteSource(name, undefined, read);
  }

  /** The next bytes without taking them: `count`, fewer only at the end. */
  async peek(count: number): Promise<Uint8Array> {
    this.checkAborted(); // here too: what was read at once may take long to decode
    while (this.ahead.length < count && (await this.readMore())) continue;
    return this.ahead.subarray(0, count);
  }

  /** Takes exactly `count` bytes, fewer only at the end. */
  async take(count: number): Promise<Uint8Array> {
    const bytes = await this.peek(count);
    this.ahead = this.ahead.subarray(bytes.length);
    this.position += bytes.length;
    return bytes;
  }

  /** Takes a block of whatever size is at hand; empty at the end. */
  async takeBlock(): Promise<Uint8Array> {
    if (this.ahead.length === 0) await this.readMore();
    return this.take(this.ahead.length);
  }

  /** `count` bytes from anywhere, fewer only at the end, taking none; undefined for a stream. */
  async bytesAt(position: number, count: number): Promise<Uint8Array | undefined> {
    if (this.size === undefined) return undefined;
    const block = new Uint8Array(Math.max(0, Math.min(count, this.size - position)));
    const bytes = block.length > 0 ? await this.read(block, position) : 0;
    return block.subarray(0, bytes);
  }

  /** The last `count` bytes, taking none; undefined for a stream. */
  async tail(count: number): Promise<Uint8Array | undefined> {
    const { size = 0 } = this;
    return this.bytesAt(Math.max(0, size - count), count);
  }

  /** Begins again; false for a stream from which something was taken. */
  rewind(): boolean {
    if (this.position === 0) return true;
    if (this.size === undefined) return false;
    this.block = this.ahead = new Uint8Array(0);
    this.ended = false;
    this.position = 0;
    return true;
  }

  async close(): Promise<void> {
    await this.file?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async readMore(): Promise<boolean> {
    if (this.ended) return false;
    const begin = this.position + this.ahead.length;
    const wanted = Math.max(0, Math.min(this.blockBytes, (this.size ?? Infinity) - begin));
    const { length } = this.ahead;
    let used = this.ahead.byteOffset - this.block.byteOffset + length;
    if (this.block.length - used < wanted) {
      this.block = new Uint8Array(length + Math.max(wanted, length)); // twice as much: a long look ahead is not copied again and again
      this.block.set(this.ahead);
      used = length;
    }
    const bytes = wanted > 0 ? await this.read(this.block.subarray(used, used + wanted), begin) : 0;
    this.ended = bytes === 0;
    this.ahead = this.block.subarray(used - length, used + bytes);
    return !this.ended;
  }

  private checkAborted(): void {
    if (this.signal?.aborted) throw new UsmLiteError("ABORTED", `${this.name}: decoding was aborted`);
  }

  private async read(block: Uint8Array, position: number): Promise<number> {
    this.checkAborted();
    try {
      return await this.readInto(block, position);
    } catch (error) {
      throw unreadable(this.name, error);
    }
  }
}

function unreadable(path: string, error: unknown): UsmLiteError {
  if (error instanceof UsmLiteError) return error;
  const { code, message } = error as NodeJS.ErrnoException;
  if (code === "ENOENT" || code === "ENOTDIR") {
    const problem = /^\w+:\/\//.test(path)
      ? "is an address; download it first and"
      : path === "-"
        ? "(standard input) is not read;"
        : "does not exist;";
    return new UsmLiteError("FILE_NOT_FOUND", `${path} ${problem} give the path of an audio file`, { cause: error });
  }
  return new UsmLiteError("FILE_UNREADABLE", `${path} cannot be read: ${message}`, { cause: error });
}
