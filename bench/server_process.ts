/** Servers as processes of their own, so that what sends them work takes no part in theirs. */
import { fork, type ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { packageRoot } from "./package_root.js";
import { cpuSeconds, residentBytes } from "./process_usage.js";

export class ServerProcess {
  private readonly samples: number[] = [];

  private constructor(
    private readonly child: ChildProcess,
    /** What it wrote first. */
    readonly greeting: string,
  ) {}

  /** @param script below the package's folder; resolves with its first line */
  static async start(script: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<ServerProcess> {
    const child = fork(join(packageRoot, script), args, { stdio: ["ignore", "pipe", "inherit", "ipc"], env: { ...process.env, ...env } });
    let text = "";
    const exit = once(child, "exit");
    while (!text.includes("\n")) {
      const [part] = (await Promise.race([once(child.stdout as NodeJS.ReadableStream, "data"), exit])) as [Buffer | number];
      if (!(part instanceof Uint8Array)) throw new Error(`${script} ended with status ${String(part)}`);
      text += part.toString();
    }
    return new ServerProcess(child, text.split("\n")[0] as string);
  }

  /** Processor time of the server and the processes it has started, so far. */
  get cpuSeconds(): number {
    return cpuSeconds(this.child.pid as number);
  }

  /** Notes the resident memory of the server and the processes it has started. */
  sampleMemory(): void {
    this.samples.push(residentBytes(this.child.pid as number));
  }

  get residentBytes(): { first: number; last: number; most: number } {
    const { samples } = this;
    return { first: samples[0] ?? 0, last: samples.at(-1) ?? 0, most: Math.max(0, ...samples) };
  }

  async stop(): Promise<void> {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const exit = once(this.child, "exit");
    this.child.kill("SIGTERM");
    const timer = setTimeout(() => this.child.kill("SIGKILL"), 10_000);
    await exit;
    clearTimeout(timer);
  }
}
