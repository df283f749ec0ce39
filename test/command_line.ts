/** The `usm-lite` command as a user runs it. */
import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const main = join(dirname(fileURLToPath(import.meta.url)), "..", "lib", "cli", "main.js");

export interface CommandResult {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs `usm-lite ...args` and waits for its end. */
export function usmLite(...args: string[]): Promise<CommandResult> {
  return new Promise((resolve) => {
    execFile(process.execPath, [main, ...args], { env: { ...process.env, USMLITE_THREADS: "1" } }, (error, stdout, stderr) => {
      resolve({ status: error ? Number(error.code ?? -1) : 0, stdout, stderr });
    });
  });
}
