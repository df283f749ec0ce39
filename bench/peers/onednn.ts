/** oneDNN in a process of its own, compiled on demand where its development package is installed. */
import { NativePeer } from "./native_peer.js";

/** float32, or unsigned activations times signed weights with 32-bit sums, as they are. */
export type OneDnnType = "f32" | "u8s8";

export class OneDnn {
  private constructor(private readonly peer: NativePeer) {}

  static compile(): { path: string } | { reason: string } {
    return NativePeer.compile("onednn", ["-ldnnl"], "libdnnl-dev");
  }

  static async start(path: string, threads: number): Promise<OneDnn> {
    // Threads that wait for work must not spin while another contestant has its turn.
    return new OneDnn(
      await NativePeer.start(path, { OMP_NUM_THREADS: String(threads), OMP_WAIT_POLICY: "passive", GOMP_SPINCOUNT: "10000" }),
    );
  }

  get impl(): string {
    return `onednn ${this.peer.introduction}`;
  }

  /** Milliseconds of each of `repetitions` products x (m, k) · weight (k, n). */
  run(type: OneDnnType, { m, n, k }: { m: number; n: number; k: number }, repetitions: number): Promise<number[]> {
    return this.peer.ask(`${type} ${m} ${n} ${k} ${repetitions}`);
  }

  stop(): void {
    this.peer.stop();
  }
}
