#!/usr/bin/env node
/** The `usm-lite` command. Exit status: 0 done, 1 failed or stopped before it was done, 2 misuse. */
import { runCommand } from "./program.js";

// Whoever reads the output may have read enough, as `head` has; a disk that is full is a failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") console.error(`usm-lite: standard output cannot be written: ${error.message} [FILE_UNWRITABLE]`);
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

const status = await runCommand(process.argv.slice(2));
if (status !== 0) process.exitCode = status;
