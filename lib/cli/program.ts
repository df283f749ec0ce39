/**
 * The commands of `usm-lite`, and what their failures say. The actions import what they compute with when they run, so that
 * help and refusals do not wait for it.
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
import { serveCommand } from "./serve.js";
import { trainCommand } from "./train.js";
import { transcribeCommand } from "./transcribe.js";
import { tuneCommand } from "./tune.js";

/**
 * Does what a command line asks for. Commands that go on after a failure set `process.exitCode` themselves.
 * @param words what follows `usm-lite`
 * @returns exit status: 0 done, 1 failed, 2 misuse
 */
export async function runCommand(words: readonly string[]): Promise<number> {
  try {
    await program().parseAsync(words, { from: "user" });
    return 0;
  } catch (error) {
    return report(error);
  }
}

function program(): Command {
  const usmLite = new Command("usm-lite")
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
    usmLite.addCommand(command.exitOverride().showHelpAfterError(`usm-lite ${command.name()} --help lists the options`));
  }
  return usmLite;
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
