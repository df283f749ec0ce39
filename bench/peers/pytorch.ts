/** PyTorch in a process of its own; `USMLITE_PYTHON` names a Python that has torch and transformers. */
import { spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { packageRoot } from "../package_root.js";

/** A running script of this folder: it answers every line with a line of JSON. */
export class PytorchPeer {
  private constructor(
    private readonly child: ChildProcessWithoutNullStreams,
    private readonly answer: () => Promise<unknown>,
    /** What the script says once it is ready. */
    readonly introduction: unknown,
  ) {}

  /** Undefined, after a line in `log`, when the script cannot run. @param words its command line */
  static async start(script: string, words: readonly string[], log: (line: string) => void): Promise<PytorchPeer | undefined> {
    const python = process.env["USMLITE_PYTHON"] ?? "python3";
    const child = spawn(python, [join(packageRoot, "bench", "peers", script), ...words]);
    let complaint = "";
    child.stderr.on("data", (text: Buffer) => (complaint = (complaint + text.toString()).slice(-4000)));
    child.stdin.on("error", () => {}); // a child that has ended is noticed where its answer is awaited
    const failed = new Promise<never>((_, reject) => child.on("error", reject));
    failed.catch(() => {});
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const answer = async (): Promise<unknown> => {
      const { done, value } = await Promise.race([lines.next(), failed]);
      if (!done) return JSON.parse(value) as unknown;
      throw new Error(`${script} ended: ${complaint.trim().split("\n").at(-1) ?? ""}`);
    };
    try {
      return new PytorchPeer(child, answer, await answer());
    } catch (error) {
      child.kill();
      log(`PyTorch skipped: ${(error as Error).message}; USMLITE_PYTHON may name a Python with torch and transformers`);
      return undefined;
    }
  }

  ask(line: string): Promise<unknown> {
    this.child.stdin.write(`${line}\n`);
    return this.answer();
  }

  stop(): void {
    this.child.kill();
  }
}
