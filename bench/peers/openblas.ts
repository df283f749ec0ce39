/** OpenBLAS in a process of its own, compiled on demand where its development package is installed. */
import { NativePeer } from "./native_peer.js";

export interface MatmulWork {
  transposeA: boolean;
  transposeB: boolean;
  m: number;
  n: number;
  k: number;
}

export class OpenBlas {
  private constructor(private readonly peer: NativePeer) {}

  static compile(): { path: string } | { reason: string } {
    return NativePeer.compile("openblas", ["-lopenblas"], "libopenblas-dev");
  }

  static async start(path: string, threads: number): Promise<OpenBlas> {
    // 2^12 cycles instead of 2^26: its threads must not spin while another contestant has its turn.
    return new OpenBlas(await NativePeer.start(path, { OPENBLAS_NUM_THREADS: String(threads), OPENBLAS_THREAD_TIMEOUT: "12" }));
  }

  /** "openblas 0.3.21" */
  get impl(): string {
    return `openblas ${/OpenBLAS (\S+)/.exec(this.peer.introduction)?.[1] ?? ""}`;
  }

  /** Milliseconds of each of `repetitions` products. */
  run({ transposeA, transposeB, m, n, k }: MatmulWork, repetitions: number): Promise<number[]> {
    return this.peer.ask(`${Number(transposeA)} ${Number(transposeB)} ${m} ${n} ${k} ${repetitions}`);
  }

  stop(): void {
    this.peer.stop();
  }
}
