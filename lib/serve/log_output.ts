/**
 * Where the lines of the log go. A disk that is full, a pipe that nobody reads or that was closed must not hold up or end the service, as synchronous
 * writing does: lines wait in memory, and are dropped and counted when too many do.
 */
import { write } from "node:fs";

/** Of lines that are not written yet. */
const maximumWaitingBytes = 1 << 20;
const retryMs = 50;
/** A service that ends does not wait longer for its last lines. */
const flushMs = 1000;

/** A destination for pino. */
export class LogOutput {
  private waiting: Buffer[] = [];
  private waitingBytes = 0;
  private writing = false;
  private closed = false;
  private onEmpty: () => void = () => undefined;

  /** @param onDrop called for each line that is lost */
  constructor(
    private readonly descriptor: number,
    private readonly onDrop: () => void = () => undefined,
  ) {}

  write(line: string): void {
    const bytes = Buffer.from(line, "utf8");
    if (this.closed || this.waitingBytes + bytes.length > maximumWaitingBytes) return this.onDrop();
    this.waiting.push(bytes);
    this.waitingBytes += bytes.length;
    if (!this.writing) this.writeOn();
  }

  /** Resolves when all is written, or cannot be for a second. */
  async flush(): Promise<void> {
    if (!this.writing) return;
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.onEmpty = resolve;
      timer = setTimeout(resolve, flushMs);
    });
    clearTimeout(timer);
  }

  private writeOn(): void {
    this.writing = true;
    const block = Buffer.concat(this.waiting);
    this.waiting = [block];
    write(this.descriptor, block, (error, written) => {
      if (error?.code === "EPIPE" || error?.code === "EBADF") return this.close();
      if (error) return void setTimeout(() => this.writeOn(), retryMs).unref();
      this.waiting[0] = block.subarray(written);
      this.waitingBytes -= written;
      if (this.waitingBytes > 0) return this.writeOn();
      this.waiting = [];
      this.writing = false;
      this.onEmpty();
    });
  }

  /** Nobody reads any more. */
  private close(): void {
    this.closed = true;
    this.waiting = [];
    this.waitingBytes = 0;
    this.writing = false;
    this.onEmpty();
  }
}
