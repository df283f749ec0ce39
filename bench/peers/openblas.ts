/** OpenBLAS in a process of its own, compiled on demand where its development package is installed. */
import { execFileSync, spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { packageRoot } from "../package_root.js";

export interface MatmulWork {
  transposeA: boolean;
  transposeB: boolean;
  m: number;
  n: number;
  k: number;
}

export class OpenBlas {
  private constructor(
    /** "openblas 0.3.21" */
    readonly impl: string,
    private readonly process: ChildProcessWithoutNullStreams,
    private readonly lines: AsyncIterator<string>,
    private readonly reader: Interface,
  ) {}

  /** Compiles the peer; says why not when that fails. */
  static compile(): { path: string } | { reason: string } {
    const folder = join(packageRoot, "build", "bench");
    const path = join(folder, "openblas");
    mkdirSync(folder, { recursive: true });
    try {
      const source = join(packageRoot, "bench", "peers", "openblas.cpp");
      execFileSync("g++", ["-O2", "-std=c++20", source, "-lopenblas", "-o", path], { stdio: "pipe" });
      return { path };
    } catch {
      return { reason: "it does not compile; on Debian: apt-get install libopenblas-dev" };
    }
  }

  static async start(path: string, threads: number): Promise<OpenBlas> {
    const process_ = spawn(path, {
      // 2^12 cycles instead of 2^26: its threads must not spin while another contestant has its turn.
      env: { ...process.env, OPENBLAS_NUM_THREADS: String(threads), OPENBLAS_THREAD_TIMEOUT: "12" },
      stdio: "pipe",
    });
    const reader = createInterface({ input: process_.stdout });
    const lines = reader[Symbol.asyncIterator]();
    const configuration = String((await lines.next()).value);
    const version = /OpenBLAS (\S+)/.exec(configuration)?.[1] ?? "";
    return new OpenBlas(`openblas ${version}`, process_, lines, reader);
  }

  /** Milliseconds of each of `repetitions` products. */
  async run(work: MatmulWork, repetitions: number): Promise<number[]> {
    const { transposeA, transposeB, m, n, k } = work;
    this.process.stdin.write(`${Number(transposeA)} ${Number(transposeB)} ${m} ${n} ${k} ${repetitions}\n`);
    return String((await this.lines.next()).value).split(" ").map(Number);
  }

  stop(): void {
    this.process.stdin.end();
    this.reader.close();
  }
}
