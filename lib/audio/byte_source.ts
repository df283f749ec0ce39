/** Sequential reading of audio bytes from a file, from memory or from another program. */
import { open, type FileHandle } from "node:fs/promises";
import { UsmLiteError } from "../errors.js";

const blockBytes = 1 << 18;

/** Reads up to `block.length` bytes, at `position` or else where the last read ended; 0 at the end. */
type ReadInto = (block: Uint8Array, position?: number) => Promise<number>;

/** Bytes in order, with a look ahead; every block passes through memory once. */
export class ByteSource implements AsyncDisposable {
  private ahead: Uint8Array = new Uint8Array(0);
  private ended = false;
  /** Bytes taken so far. */
  position = 0;

  private constructor(
    /** What messages call it: the path, or "audio in memory". */
    readonly name: string,
    /** Bytes in all, when they are known before the end. */
    readonly size: number | undefined,
    private readonly readInto: ReadInto,
    /** Can read at any position. */
    private readonly seekable: boolean,
    /** The open file, for a program that reads it itself. */
    readonly file: FileHandle | undefined,
    private readonly signal: AbortSignal | undefined,
  ) {}

  /** @throws UsmLiteError FILE_NOT_FOUND, FILE_UNREADABLE */
  static async open(input: string | Uint8Array, signal?: AbortSignal): Promise<ByteSource> {
    if (input instanceof Uint8Array) return ByteSource.fromMemory(input, signal);
    let file: FileHandle | undefined;
    try {
      file = await open(input, "r");
      const status = await file.stat();
      if (status.isDirectory()) throw new UsmLiteError("FILE_UNREADABLE", `${input} is a folder; an audio file is expected`);
      const handle = file;
      const read: ReadInto = async (block, position) =>
        (await handle.read(block, 0, block.length, position ?? null)).bytesRead;
      const size = status.isFile() ? status.size : undefined;
      return new ByteSource(input, size, read, status.isFile(), file, signal);
    } catch (error) {
      await file?.close();
      throw unreadable(input, error);
    }
  }

  private static fromMemory(bytes: Uint8Array, signal?: AbortSignal): ByteSource {
    let next = 0;
    const read: ReadInto = (block, position) => {
      const begin = position ?? next;
      const part = bytes.subarray(begin, begin + block.length);
      block.set(part);
      if (position === undefined) next += part.length;
      return Promise.resolve(part.length);
    };
    return new ByteSource("audio in memory", bytes.length, read, true, undefined, signal);
  }

  /** What another program writes; `name` is whose audio it is. */
  static fromStream(name: string, stream: AsyncIterable<Uint8Array>, signal?: AbortSignal): ByteSource {
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
    return new ByteSource(name, undefined, read, false, undefined, signal);
  }

  /** The next bytes without taking them: `count`, fewer only at the end. */
  async peek(count: number): Promise<Uint8Array> {
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

  /** The last `count` bytes, taking none; undefined where only reading in order is possible. */
  async tail(count: number): Promise<Uint8Array | undefined> {
    if (!this.seekable || this.size === undefined) return undefined;
    const block = new Uint8Array(Math.min(count, this.size));
    const bytes = await this.read(block, this.size - block.length);
    return block.subarray(0, bytes);
  }

  async close(): Promise<void> {
    await this.file?.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  private async readMore(): Promise<boolean> {
    if (this.ended) return false;
    const block = new Uint8Array(this.ahead.length + blockBytes);
    block.set(this.ahead);
    const bytes = await this.read(block.subarray(this.ahead.length));
    this.ended = bytes === 0;
    this.ahead = block.subarray(0, this.ahead.length + bytes);
    return !this.ended;
  }

  private async read(block: Uint8Array, position?: number): Promise<number> {
    if (this.signal?.aborted) throw new UsmLiteError("ABORTED", `${this.name}: decoding was aborted`);
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
    return new UsmLiteError("FILE_NOT_FOUND", `${path} does not exist; give the path of an audio file`, { cause: error });
  }
  return new UsmLiteError("FILE_UNREADABLE", `${path} cannot be read: ${message}`, { cause: error });
}
