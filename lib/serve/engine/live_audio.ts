/** The samples of somebody who speaks, kept until they are recognised: should a worker end, another hears all of them. */
import type { Run } from "./engine.js";

export class LiveAudio {
  private blocks: Float32Array[] = [];
  private ended = false;
  private run: Run | undefined;

  /** @param samples mono at 16 kHz in [-1, 1] */
  push(samples: Float32Array): void {
    this.blocks.push(samples);
    this.run?.send({ kind: "samples", samples });
  }

  end(): void {
    if (this.ended) return;
    this.ended = true;
    this.run?.send({ kind: "end" });
  }

  /** Sends what there is, and from now on whatever comes, to the worker of `run`. */
  attach(run: Run): void {
    this.run = run;
    for (const samples of this.blocks) run.send({ kind: "samples", samples });
    if (this.ended) run.send({ kind: "end" });
  }

  detach(): void {
    this.run = undefined;
  }
}
