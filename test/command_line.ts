/** The `usm-lite` command: as a user runs it, or in this process, where the library is loaded already. */
import { execFile } from "node:child_process";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { runCommand } from "../lib/cli/program.js";

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

let last: Promise<unknown> = Promise.resolve();

/** The same in this process. Commands wait for each other, as all that is written meanwhile counts as theirs. */
export function usmLiteHere(...args: string[]): Promise<CommandResult> {
  const result = last.then(() => here(args));
  last = result.catch(() => undefined);
  return result;
}

async function here(args: readonly string[]): Promise<CommandResult> {
  const stdout = captured(process.stdout);
  const stderr = captured(process.stderr);
  const before = process.exitCode;
  process.exitCode = undefined;
  try {
    const status = await runCommand(args);
    return { status: status || Number(process.exitCode ?? 0), stdout: stdout.text, stderr: stderr.text };
  } finally {
    process.exitCode = before;
    stdout.restore();
    stderr.restore();
  }
}

/** What is written to a stream until it is restored; the stream itself gets none of it. */
function captured(stream: NodeJS.WriteStream): { text: string; restore: () => void } {
  const { write } = stream;
  const capture = { text: "", restore: () => void (stream.write = write) };
  stream.write = (chunk: string | Uint8Array, ...rest: unknown[]): boolean => {
    capture.text += typeof chunk === "string" ? chunk : Buffer.from(chunk).toString("utf8");
    const done = rest.at(-1);
    if (typeof done === "function") process.nextTick(done);
    return true;
  };
  return capture;
}
