/** Programs of this folder that are compiled on demand and answer every line with the milliseconds of each repetition. */
import { execFileSync, spawn, type ChildProcessWithoutNullStreams } from "node:child_process";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { createInterface, type Interface } from "node:readline";
import { packageRoot } from "../package_root.js";

export class NativePeer {
  private constructor(
    /** The first line that the program writes. */
    readonly introduction: string,
    private readonly process: ChildProcessWithoutNullStreams,
    private readonly lines: AsyncIterator<string>,
    private readonly reader: Interface,
  ) {}

  /** Compiles `NAME.cpp`; says why not when that fails. @param debianPackage what it needs */
  static compile(name: string, flags: readonly string[], debianPackage: string): { path: string } | { reason: string } {
    const folder = join(packageRoot, "build", "bench");
    const path = join(folder, name);
    mkdirSync(folder, { recursive: true });
    try {
      const source = join(packageRoot, "bench", "peers", `${name}.cpp`);
      execFileSync("g++", ["-O2", "-std=c++20", source, ...flags, "-o", path], { stdio: "pipe" });
      return { path };
    } catch {
      return { reason: `it does not compile; on Debian: apt-get install ${debianPackage}` };
    }
  }

  static async start(path: string, environment: Record<string, string>, words: readonly string[] = []): Promise<NativePeer> {
    const child = spawn(path, words, { env: { ...process.env, ...environment }, stdio: "pipe" });
    const reader = createInterface({ input: child.stdout });
    const lines = reader[Symbol.asyncIterator]();
    return new NativePeer(String((await lines.next()).value), child, lines, reader);
  }

  async ask(line: string): Promise<number[]> {
    this.process.stdin.write(`${line}\n`);
    return String((await this.lines.next()).value)
      .split(" ")
      .map(Number);
  }

  stop(): void {
    this.process.stdin.end();
    this.reader.close();
  }
}
