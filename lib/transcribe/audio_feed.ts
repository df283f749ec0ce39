/** Audio that is pushed from outside, as a sequence to read from. */
import { notFinite } from "../audio/finite_samples.js";
import { concatenate } from "../audio/sample_blocks.js";

/** What was pushed since the last read comes as one block, so that a slow reader catches up. */
export class AudioFeed implements AsyncIterable<Float32Array> {
  private blocks: Float32Array[] = [];
  /** Samples pushed so far. */
  private pushed = 0;
  private ended = false;
  private failure: Error | undefined;
  private wake: () => void = () => undefined;

  /** Without effect after the end. Whoever reads gets BAD_AUDIO when a sample is not finite. */
  push(samples: Float32Array): void {
    if (this.ended || samples.length === 0) return;
    const bad = notFinite(samples, this.pushed);
    if (bad) return this.fail(bad);
    this.pushed += samples.length;
    this.blocks.push(samples);
    this.wake();
  }

  end(): void {
    this.ended = true;
    this.wake();
  }

  /** Whoever reads gets `error`; what was pushed and not read is dropped. */
  fail(error: Error): void {
    this.failure ??= error;
    this.end();
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Float32Array> {
    for (;;) {
      if (this.failure) throw this.failure;
      if (this.blocks.length > 0) yield concatenate(this.blocks.splice(0));
      else if (this.ended) return;
      else await new Promise<void>((resolve) => (this.wake = resolve));
    }
  }
}
