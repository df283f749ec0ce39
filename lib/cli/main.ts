#!/usr/bin/env node
/**
 * The `usm-lite` command. Exit status: 0 done, 1 failed or stopped before it was done, 2 misuse.
 *
 * The actions import what they compute with when they run, so that help and refusals do not wait for it.
 */
import { Command, CommanderError } from "commander";
import { scarcityOf, UsmLiteError } from "../errors.js";
import { version } from "../version.js";
import { adaptCommand } from "./adapt.js";
import { batchCommand } from "./batch.js";
import { compressCommand } from "./compress.js";
import { doctorCommand } from "./doctor.js";
import { evaluateCommand } from "./evaluate.js";
import { forwardCommand } from "./forward.js";
import { inspectCommand } from "./inspect.js";
import { manifestCommand } from "./manifest.js";
import { pullCommand } from "./pull.js";
import { trainCommand } from "./train.js";
import { serveCommand } from "./serve.js";
import { tuneCommand } from "./tune.js";
import { transcribeCommand } from "./transcribe.js";

const program = new Command("usm-lite")
  .description("Compress speech recognition models and transcribe with them.")
  .version(version)
  .showHelpAfterError("usm-lite --help lists the commands")
  .exitOverride();

for (const command of [
  transcribeCommand(),
  serveCommand(),
  batchCommand(),
  evaluateCommand(),
  compressCommand(),
  manifestCommand(),
  pullCommand(),
  trainCommand(),
  adaptCommand(),
  tuneCommand(),
  inspectCommand(),
  doctorCommand(),
  forwardCommand(),
]) {
  program.addCommand(command.exitOverride().showHelpAfterError(`usm-lite ${command.name()} --help lists the options`));
}

// Whoever reads the output may have read enough, as `head` has; a disk that is full is a failure.
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") console.error(`usm-lite: standard output cannot be written: ${error.message} [FILE_UNWRITABLE]`);
  process.exit(error.code === "EPIPE" ? 0 : 1);
});

try {
  await program.parseAsync();
} catch (error) {
  process.exitCode = report(error);
}

/** Writes one line for a failure and returns the exit status. */
function report(thrown: unknown): number {
  const error = (thrown instanceof Error && !(thrown instanceof UsmLiteError) && scarcityOf(thrown)) || thrown;
  if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // commander has written its message
  if (error instanceof UsmLiteError) {
    console.error(`usm-lite: ${error.message} [${error.code}]`);
    return error.code === "INVALID_ARGUMENT" ? 2 : 1;
  }
  console.error("usm-lite: unexpected failure; please report it with this trace:");
  console.error(error);
  return 1;
}
