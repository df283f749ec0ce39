#!/usr/bin/env node
/** The `usm-lite` command. Exit status: 0 done, 1 failed or stopped before it was done, 2 misuse. */
import { scarcityOf } from "../errors.js";

// Whoever reads the output may have read enough, as `head` has; a disk that is full is a failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") console.error(`usm-lite: standard output cannot be written: ${error.message} [FILE_UNWRITABLE]`);
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

const status = await run();
if (status !== 0) process.exitCode = status;

async function run(): Promise<number> {
  try {
    // Opens the modules of all commands at once, which a process may be refused that is allowed few open files.
    const { runCommand } = await import("./program.js");
    return await runCommand(process.argv.slice(2));
  } catch (error) {
    const scarcity = error instanceof Error ? scarcityOf(error) : undefined;
    if (!scarcity) throw error;
    console.error(`usm-lite: ${scarcity.message} [${scarcity.code}]`);
    return 1;
  }
}
